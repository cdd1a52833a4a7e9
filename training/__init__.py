"""DreamBooth fine-tuning and the pretraining of the embedded base."""
