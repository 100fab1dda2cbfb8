"""Charts and pictures of faces."""
