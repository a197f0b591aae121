"""The `maskseg` command: one file per sub-command, heavy imports inside the function."""
