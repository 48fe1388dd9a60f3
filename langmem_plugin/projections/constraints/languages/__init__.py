"""Language data of the constraint rules: one JSON file a language; docs/constraints.md has the format."""
