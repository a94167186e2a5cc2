"""The telemetry gateway: one daemon between a company's services and its observability backends."""
