"""Conformance suites and honest fakes, for anyone who adds a backend."""
