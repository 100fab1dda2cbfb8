"""The built-in synthetic competition."""
