"""Data sets: annotations, images, crops and folds."""
