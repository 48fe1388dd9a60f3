"""Constraints found in what the user says: rules at ingest, and how later statements end earlier ones."""

from langmem_plugin.projections.constraints.rules import Ended, Findings, Found, find_constraints

__all__ = ["Ended", "Findings", "Found", "find_constraints"]
