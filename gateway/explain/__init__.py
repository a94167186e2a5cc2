"""`gateway explain`: what masking makes of one request, value by value (docs/masking.md)."""
