"""The local page: see, correct, retrain."""
