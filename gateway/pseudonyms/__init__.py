"""The keys that values are pseudonymised with: where they come from, how they are renewed, who gets them."""
