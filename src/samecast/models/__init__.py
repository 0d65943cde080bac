"""The only place that knows a model family: texts, latents, pictures, checkpoints."""
