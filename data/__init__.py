"""Stanford Dogs and a user's own photos, made into datasets.Dataset folders."""
