"""Annotations in any form to a data set, and back. No torch."""
