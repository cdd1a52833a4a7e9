"""What a model is, where models live, how they are loaded and how they run."""

__version__ = "0.1.0"
