"""Time and witnesses: what people outside the operator say about the log."""
