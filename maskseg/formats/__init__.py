"""Files of masks and tables, one module a format. No torch."""
