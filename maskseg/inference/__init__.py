"""Prediction: views, post-processing, batches."""
