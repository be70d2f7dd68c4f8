"""Text to values, without I/O: settings, WORKERS, service mapping, node lists."""
