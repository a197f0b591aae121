"""What is wrong with a data set, what is in it, and its repair. No torch."""
