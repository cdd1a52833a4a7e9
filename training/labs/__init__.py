"""Laboratories on generative models: a file each, read as a page of maths, run as a command."""
