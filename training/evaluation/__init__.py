"""What a model's pictures are worth: a judge, metrics, and the report of a whole model."""
