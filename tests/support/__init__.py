"""What several tests need: processes, ports, the real backends, a gateway under test."""
