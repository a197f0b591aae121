"""Reading of images, whole or window by window, and what is done to their intensities and sizes. No torch."""
