"""Finding the earlier turns that matter for a question."""
