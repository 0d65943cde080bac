"""The only place that knows a model family: text to embeddings, latents to predictions, pictures to latents and back."""
