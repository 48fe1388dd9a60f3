"""Other formats of messages, read and written as plain JSON: no framework is imported."""
