"""Jobs per second, start latency and idle cost of the queue, beside peers in the same run."""
