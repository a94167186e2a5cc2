"""Usage of each tenant, signal and day: counted, kept, priced, shown (docs/usage.md)."""
