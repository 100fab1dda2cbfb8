"""Errors, atomic files, parallel work and pretrained weights."""
