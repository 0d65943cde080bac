"""Attention routing: at one call of a layer's attention, whose keys and values each row of the batch reads, and how."""
