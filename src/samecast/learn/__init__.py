"""Learning a subject from photos: Custom Diffusion, Textual Inversion, LoRA and DreamBooth, all into one kind of file."""
