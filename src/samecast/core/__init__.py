"""Pure tensors and frozen data: branches, routing, steps, layers, DDIM, noise. Knows no model."""
