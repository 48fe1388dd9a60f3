"""What the model sees: pure functions from a session's view to a request. No I/O."""
