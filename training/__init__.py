"""Recipes that make the embedded weights. Not part of the installed package; run as `python -m training.<part>`."""
