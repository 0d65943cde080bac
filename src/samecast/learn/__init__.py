"""Learning a subject from photos, by Custom Diffusion, Textual Inversion, LoRA or DreamBooth, into a concept."""
