"""One module a destination kind, and what they share: sending, credentials, and what each answer means."""
