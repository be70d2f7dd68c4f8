"""What must be on disk before a service can start: steps, and their executor."""
