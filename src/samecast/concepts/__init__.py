"""What was learned of a subject: the type and its files, in and out of a model, merged and compressed."""
