"""The tamper-evident trail: who or what did what, when, for which tenant (docs/audit.md)."""
