"""Following a log from outside: whoever does not believe its operator runs this."""
