"""Training of one fold: augmentation, loader, loop."""
