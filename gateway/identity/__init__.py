"""Who is sending: API keys."""
