"""Protein localisation: labels of an image of up to four channels."""
