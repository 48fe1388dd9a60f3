"""Seeing what a memory holds and why: timelines, earlier requests, explanations, as data, HTML and text."""

from langmem_plugin.inspection.explain import Explanation, explain
from langmem_plugin.inspection.held import Held, read_session
from langmem_plugin.inspection.pages import memory_html, session_html
from langmem_plugin.inspection.timeline import Moment, Timeline, read_timeline

__all__ = [
    "Explanation",
    "Held",
    "Moment",
    "Timeline",
    "explain",
    "memory_html",
    "read_session",
    "read_timeline",
    "session_html",
]
