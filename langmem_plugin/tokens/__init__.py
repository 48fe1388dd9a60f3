"""Counting tokens as the model does: text, messages, tool schemas, whole requests."""

from langmem_plugin.tokens.calibration import Calibration, Correction
from langmem_plugin.tokens.counter import TokenCounter, as_counter
from langmem_plugin.tokens.overheads import Overheads
from langmem_plugin.tokens.source import TokenizerWarning

__all__ = ["Calibration", "Correction", "Overheads", "TokenCounter", "TokenizerWarning", "as_counter"]
