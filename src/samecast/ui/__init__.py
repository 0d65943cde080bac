"""A page in the browser over the same commands: what a form says is a command line, and that is what runs.

A form's values become the words of a command (`form`), the command line's own parser reads them, and the run is the one
that the terminal would make. So form, command and record cannot disagree, and every mistake is the parser's one line.
What is shown of earlier runs is read from their records on disk (`history`), and nothing is kept anywhere else.
"""
