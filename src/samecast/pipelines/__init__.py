"""Stock diffusers pipelines under control: the same rules, plan and session, driven by hooks."""
