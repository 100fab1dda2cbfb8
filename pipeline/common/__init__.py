"""Errors, atomic files, tables, parallel work and pretrained weights."""
