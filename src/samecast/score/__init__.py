"""How well pictures fit their prompts and their subject: numbers a study can be ranked by."""
