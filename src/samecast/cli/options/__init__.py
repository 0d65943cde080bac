"""The command line as data: a frozen dataclass for each command, in a module of its command's name."""
