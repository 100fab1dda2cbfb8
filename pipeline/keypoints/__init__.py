"""Point sets, affine geometry and point metrics."""
