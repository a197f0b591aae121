"""Nuclei as the foreground of a U-Net."""
