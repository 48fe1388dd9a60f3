"""The memory's numbers as LangChain's custom events, for callbacks and `astream_events`."""

from __future__ import annotations

from langchain_core.callbacks import adispatch_custom_event, dispatch_custom_event
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.config import get_async_callback_manager_for_config, get_callback_manager_for_config

from langmem_plugin.context.request import ContextReport

REQUEST_EVENT = "langmem_plugin.request"
"""The name of the event that a request was built; its data is `ContextReport.numbers()`, no text."""


def announce(report: ContextReport | None, config: RunnableConfig | None = None) -> None:
    """Tell the callbacks of the run under way; without a run or without callbacks nothing happens."""
    if report is None:
        return
    config = ensure_config(config)
    manager = get_callback_manager_for_config(config)
    if manager.parent_run_id is not None and manager.handlers:
        dispatch_custom_event(REQUEST_EVENT, report.numbers(), config=config)


async def aannounce(report: ContextReport | None, config: RunnableConfig | None = None) -> None:
    """The same in async code."""
    if report is None:
        return
    config = ensure_config(config)
    manager = get_async_callback_manager_for_config(config)
    if manager.parent_run_id is not None and manager.handlers:
        await adispatch_custom_event(REQUEST_EVENT, report.numbers(), config=config)
