"""Rules to attention: methods as data, what they mean on one model and run, and the session that carries them out."""
