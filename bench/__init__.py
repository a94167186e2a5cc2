"""The gateway beside its peers: CPU, memory and latency on the same payloads, in one run."""
