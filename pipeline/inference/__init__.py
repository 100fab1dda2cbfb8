"""Predictions, ensembles and annotation of new photos."""
