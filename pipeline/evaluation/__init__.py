"""Scores, comparison, submission and report."""
