"""What lies in `queue.dir`: frames under keys in LMDB's pages, data keys, and what a run leaves for the next."""
