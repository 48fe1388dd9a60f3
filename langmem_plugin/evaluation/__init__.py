"""Measuring a memory on conversations: loaders, metrics, tables."""
