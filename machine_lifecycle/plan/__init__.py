"""Values and hardware to a boot plan, without I/O."""
