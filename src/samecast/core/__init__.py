"""Pure tensors and frozen data: branches, routing, steps, sites, DDIM, noise. Knows no model."""
