"""Compares methods on the same subjects, prompts, seeds and metrics."""
