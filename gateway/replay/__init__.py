"""`gateway replay`: dead letters are sent again."""
