"""Data sets: converters to one COCO form, splits, and readers of them. No torch."""
