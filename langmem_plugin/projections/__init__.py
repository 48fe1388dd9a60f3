"""What is derived from the log, each with its position in it; all of it can be rebuilt."""
