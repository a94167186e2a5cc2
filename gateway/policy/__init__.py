"""From configuration to the engine's policy table."""
