"""Scoring of predicted nuclei against true ones."""
