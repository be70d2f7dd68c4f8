"""Outside libraries and the operating system, one module each."""
