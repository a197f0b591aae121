"""Training: samples, the loop and what is watched during it."""
