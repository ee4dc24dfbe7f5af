"""What changes the registry, one module per noun."""
