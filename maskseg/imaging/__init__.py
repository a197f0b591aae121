"""Images in: what their files mean, and which part of them is looked at."""
