"""Find every nucleus in a microscope image and draw its exact outline."""

__version__ = "0.1.0"
