"""Studies: grids of rules (layers, steps, masks) on several subjects, which share the computation of common steps."""
