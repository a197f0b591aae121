"""Masks, run lengths, outlines, files and processes: what every other package stands on. No torch."""
