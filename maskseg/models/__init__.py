"""Config keys, the networks and their weights."""
