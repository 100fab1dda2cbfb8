"""The commands: one thin Click command a file, each run as `python -m stages.NAME`."""
