"""What the service keeps: one database of generations, pictures, keys, trainings and counters."""
