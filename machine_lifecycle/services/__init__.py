"""One service definition per file, and the registry that finds them."""
