"""Conversation memory for LangChain and LlamaIndex.

An exact token budget, constraints that survive any compression, a rolling summary and
hybrid recall behind one durable log. Start with `Memory.open`; the adapters are
`langchain_langmem_plugin` and `llama_index.memory.langmem_plugin`.
"""

from langmem_plugin.config import Budget, MemoryConfig
from langmem_plugin.context.request import Context, ContextReport, Document
from langmem_plugin.errors import BudgetTooSmall, LangmemPluginError
from langmem_plugin.memory import Memory
from langmem_plugin.messages import Message, Role, ToolCall
from langmem_plugin.recall.filters import RecallFilter
from langmem_plugin.records import Constraint, ConstraintEvent, ConstraintKind, ConstraintState, Entry, Hit
from langmem_plugin.session import Session
from langmem_plugin.tokens import TokenCounter
from langmem_plugin.turn import Turn

__all__ = [
    "Budget",
    "BudgetTooSmall",
    "Constraint",
    "ConstraintEvent",
    "ConstraintKind",
    "ConstraintState",
    "Context",
    "ContextReport",
    "Document",
    "Entry",
    "Hit",
    "LangmemPluginError",
    "Memory",
    "MemoryConfig",
    "Message",
    "RecallFilter",
    "Role",
    "Session",
    "TokenCounter",
    "ToolCall",
    "Turn",
]

__version__ = "0.1.0"
