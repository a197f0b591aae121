"""Data sets in their one COCO form, their division into parts, and packing. No torch."""
