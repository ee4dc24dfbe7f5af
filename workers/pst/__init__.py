"""Parameter-efficient sparse fine-tuning: train, merge, export. Importing this package does not import torch."""
