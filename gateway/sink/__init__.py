"""A local stand-in for Prometheus, Loki and Jaeger: receives, decodes, counts and shows what arrives.

It decodes with classes generated from the wire contracts, on its own code path, so that it checks the engine.
"""
