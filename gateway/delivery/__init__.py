"""From closed batches to backends: the durable queue, ordered senders, one module a kind of destination."""
