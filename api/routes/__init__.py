"""The service's paths, a module for each."""
