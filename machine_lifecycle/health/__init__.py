"""HTTP pages: health, status, metrics."""
