"""Methods side by side: the same subjects, prompts, seeds and judge for each."""
