"""How a worker drives a running service."""
