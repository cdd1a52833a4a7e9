"""Training runs as jobs: kept in the database, run one at a time by a process of their own."""
