"""Concepts (modifier tokens and fine-tuned weights): type, file formats, application to a model, merging,
compression."""
