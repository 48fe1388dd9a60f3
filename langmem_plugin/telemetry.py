"""OpenTelemetry: spans and metrics of a memory, with the extra `otel`; off until `instrument` is called."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from langmem_plugin.context.request import Context
from langmem_plugin.errors import MissingExtra
from langmem_plugin.measures import (
    Measure,
    RequestBuilt,
    RequestRefused,
    Search,
    Searched,
    StepDone,
    SummaryKept,
    Took,
    TurnKept,
    UsageReported,
)
from langmem_plugin.memory import Memory
from langmem_plugin.messages import dump_json
from langmem_plugin.records import ConstraintEvent, SessionKey

if TYPE_CHECKING:
    from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
    from opentelemetry.trace import Span, TracerProvider

_SCOPE = "langmem_plugin"


def instrument(
    memory: Memory,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    content: bool = False,
    names: bool = False,
) -> Callable[[], None]:
    """Report what a memory does as OpenTelemetry spans and metrics.

    Spans are children of the span that is current in the thread that asks; work behind has
    spans of its own. Without a provider OpenTelemetry drops everything at once. A failing
    exporter never fails a turn.

    Args:
        memory: Whose work.
        tracer_provider: Where spans go; the global one if not given.
        meter_provider: Where metrics go; the global one if not given.
        content: Also put the messages of each request into its span. They hold what users said.
        names: Also put owner and session into spans. Metrics never hold them.

    Returns:
        A function that ends it.

    Raises:
        MissingExtra: opentelemetry-api is not installed.
    """
    try:
        from opentelemetry import metrics, trace
    except ModuleNotFoundError as error:
        raise MissingExtra("OpenTelemetry", "opentelemetry-api", "otel") from error
    provider = metrics.get_meter_provider() if meter_provider is None else meter_provider
    meter = _Meter(provider.get_meter(_SCOPE), memory)
    tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
    spans = _Spans(tracer, content=content, names=names)

    def told(measure: Measure) -> None:
        meter.told(measure)
        spans.told(measure)

    ends = (memory.observe(told), memory.subscribe(meter.constraint), meter.end)

    def end() -> None:
        for one in ends:
            one()

    return end


class _Spans:
    """Measures as spans: each is made when it is over, with the time at which it began."""

    def __init__(self, tracer: Any, *, content: bool, names: bool) -> None:
        self._tracer = tracer
        self._content = content
        self._names = names

    def told(self, measure: Measure) -> None:
        """Make a span of what has a length."""
        match measure:
            case RequestBuilt(key=key, took=took, context=context, search=search):
                span = self._begin("request", key, took)
                if span.is_recording():
                    span.set_attributes(_request_attributes(context))
                    if self._content:
                        span.set_attributes(_content_of(context))
                if search is not None:
                    self._search(search, key, parent=span)
                _end(span, took)
            case RequestRefused(key=key, took=took, error=error):
                _end(self._begin("request", key, took), took, error=error)
            case Searched(key=key, search=search):
                self._search(search, key)
            case TurnKept(key=key, took=took, version=version, messages=messages, tokens=tokens):
                span = self._begin("turn", key, took)
                span.set_attributes(
                    {"langmem.version": version, "langmem.turn.messages": messages, "langmem.turn.tokens": tokens}
                )
                _end(span, took)
            case StepDone(key=key, took=took, projection=projection, error=error):
                span = self._begin("behind", key, took)
                span.set_attribute("langmem.projection", projection)
                _end(span, took, error=error)
            case _:
                pass

    def _search(self, search: Search, key: SessionKey, *, parent: Span | None = None) -> None:
        span = self._begin("recall", key, search.took, parent=parent)
        span.set_attributes(
            {
                "langmem.recall.legs": list(search.legs),
                "langmem.recall.note": search.note,
                "langmem.recall.found": search.found,
                "langmem.recall.need": search.need,
            }
        )
        _end(span, search.took)

    def _begin(self, what: str, key: SessionKey, took: Took, *, parent: Span | None = None) -> Span:
        from opentelemetry import trace

        context = None if parent is None else trace.set_span_in_context(parent)
        attributes = {"langmem.owner": key.owner, "gen_ai.conversation.id": key.session} if self._names else None
        span: Span = self._tracer.start_span(
            f"langmem.{what}", context=context, start_time=took.began_ns, attributes=attributes
        )
        return span


class _Meter:
    """Measures as metrics; they never say whose."""

    def __init__(self, meter: Any, memory: Memory) -> None:
        self._memory = weakref.ref(memory)
        self._ended = False
        histogram, counter = meter.create_histogram, meter.create_counter
        self._tokens = histogram("langmem.request.tokens", "{token}", "Tokens of a request, by segment")
        self._reuse = histogram("langmem.request.prefix_reuse", "1", "Share that repeats the request before")
        self._request = histogram("langmem.request.duration", "s", "Time to assemble a request")
        self._recall = histogram("langmem.recall.duration", "s", "Time to search the past, by the legs that answered")
        self._legs = counter("langmem.recall.legs", "{search}", "Searches, by leg")
        self._turn = histogram("langmem.turn.duration", "s", "Time to make a turn durable")
        self._messages = counter("langmem.messages", "{message}", "Messages kept")
        self._compression = histogram("langmem.summary.compression", "1", "Tokens read for each token of a summary")
        self._retention = histogram("langmem.summary.retention", "1", "Share of facts that a summary holds")
        self._behind = histogram("langmem.behind.duration", "s", "Time of a unit of work behind, by projection")
        self._usage = counter("langmem.usage.tokens", "{token}", "Tokens that providers reported")
        self._constraints = counter("langmem.constraints", "{change}", "Changes of constraints")
        meter.create_observable_gauge(
            "langmem.behind.queue", [self._queue], "{session}", "Sessions with work behind, by projection"
        )

    def told(self, measure: Measure) -> None:
        """Count it."""
        match measure:
            case RequestBuilt():
                self._built(measure)
            case RequestRefused(took=took, error=error):
                self._request.record(took.seconds, {"error.type": error})
            case Searched(search=search):
                self._search(search)
            case TurnKept(took=took, messages=messages):
                self._turn.record(took.seconds)
                self._messages.add(messages)
            case SummaryKept(method=method, retention=retention):
                self._compression.record(measure.compression, {"langmem.summary.method": method})
                if retention is not None:
                    self._retention.record(retention, {"langmem.summary.method": method})
            case StepDone(took=took, projection=projection, error=error):
                failed = {"error.type": error} if error else {}
                self._behind.record(took.seconds, {"langmem.projection": projection} | failed)
            case UsageReported(usage=usage, model=model):
                named = {"gen_ai.response.model": model} if model else {}
                self._usage.add(usage.input_tokens, {"gen_ai.token.type": "input"} | named)
                self._usage.add(usage.output_tokens, {"gen_ai.token.type": "output"} | named)

    def constraint(self, event: ConstraintEvent) -> None:
        """Count a change of a constraint."""
        self._constraints.add(1, {"langmem.change": event.change, "langmem.kind": event.constraint.kind.value})

    def end(self) -> None:
        """Say nothing of queues any more."""
        self._ended = True

    def _built(self, measure: RequestBuilt) -> None:
        for segment, tokens in measure.context.report.tokens.items():
            self._tokens.record(tokens, {"langmem.segment": segment})
        self._reuse.record(measure.context.report.prefix_reuse)
        self._request.record(measure.took.seconds)
        if measure.search is not None:
            self._search(measure.search)

    def _search(self, search: Search) -> None:
        self._recall.record(search.took.seconds, {"langmem.recall.legs": "+".join(search.legs) or "none"})
        for leg in search.legs:
            self._legs.add(1, {"langmem.recall.leg": leg, "langmem.recall.answered": True})
        for leg in search.missing:
            self._legs.add(1, {"langmem.recall.leg": leg, "langmem.recall.answered": False})

    def _queue(self, options: CallbackOptions) -> Iterable[Observation]:
        memory = self._memory()
        return () if memory is None or self._ended else _queues(memory)


def _queues(memory: Memory) -> Iterator[Observation]:
    from opentelemetry.metrics import Observation

    for projection, lane in memory.status()["behind"].items():
        yield Observation(lane.queued, {"langmem.projection": projection, "langmem.state": "queued"})
        yield Observation(lane.parked, {"langmem.projection": projection, "langmem.state": "parked"})


def _request_attributes(context: Context) -> dict[str, Any]:
    """The numbers of a request as a span's attributes."""
    numbers = context.report.numbers()
    segments = numbers.pop("tokens")
    out = {f"langmem.request.{name}": value for name, value in numbers.items()}
    return out | {f"langmem.request.tokens.{segment}": tokens for segment, tokens in segments.items()}


def _content_of(context: Context) -> dict[str, Any]:
    """The messages of a request as a span's attribute, JSON text each."""
    return {"langmem.request.messages": [dump_json(message.to_json()) for message in context.messages]}


def _end(span: Span, took: Took, *, error: str = "") -> None:
    from opentelemetry.trace import Status, StatusCode

    if error:
        span.set_attribute("error.type", error)
        span.set_status(Status(StatusCode.ERROR, error))
    span.end(took.began_ns + int(took.seconds * 1e9))
