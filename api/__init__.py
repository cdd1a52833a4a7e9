"""The HTTP service: schemas, routes, errors, settings."""
