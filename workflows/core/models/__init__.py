"""Models of written files: closed, frozen, every field described. Nothing after the compiler sees them."""
