"""The truth: what was said, durable, versioned, one turn a transaction."""
