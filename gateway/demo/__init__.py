"""`gateway demo`: the whole product on one screen, with nothing installed and nothing configured."""
