"""The machine's registration and status in Redis."""
