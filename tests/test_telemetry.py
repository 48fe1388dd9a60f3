"""What a memory measures, and its spans and metrics in OpenTelemetry's own in-memory exporters."""

from __future__ import annotations

import logging

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from langmem_plugin import Budget, BudgetTooSmall, Memory, MemoryConfig, Message, Role
from langmem_plugin.measures import RequestBuilt, Searched, StepDone, SummaryKept, TurnKept, UsageReported
from langmem_plugin.messages import Text, Usage, assistant
from langmem_plugin.telemetry import instrument

SECRET = "My password is xyzzy42."
CONFIG = MemoryConfig(budget=Budget(max_tokens=900, completion=200))


@pytest.fixture
def memory():
    with Memory.open(config=CONFIG) as memory:
        yield memory


@pytest.fixture
def collected(memory):
    """A memory's spans and metrics: two functions, each gives what there is by name."""
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(), MeterProvider(metric_readers=[reader])
    tracers.add_span_processor(SimpleSpanProcessor(exporter))

    def spans():
        found = {}
        for span in exporter.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found

    def metrics():
        data = reader.get_metrics_data()
        of_scope = [m for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return {metric.name: list(metric.data.data_points) for metric in of_scope}

    yield tracers, meters, spans, metrics
    tracers.shutdown()
    meters.shutdown()


def talk(memory, turns=30):
    """A conversation that is compressed, recalled from, reported and constrained."""
    session = memory.session("s", owner="ann@example.org")
    session.add("Never call me before noon. " + SECRET, assistant("Noted."))
    for number in range(turns):
        session.add(f"Tell me of museum {number} in the town of Lyon.", assistant(f"Museum {number} has 7 rooms."))
    assert memory.wait(30)
    with session.begin("What did you say about museum 3?") as turn:
        turn.context(system="You plan trips.")
        answer = Message(
            role=Role.ASSISTANT,
            blocks=(Text("Seven rooms."),),
            usage=Usage(input_tokens=90, output_tokens=4, total_tokens=94),
        )
        turn.append(answer)
    assert memory.wait(30)
    session.recall("museum 4")
    return session


def test_what_a_memory_measures(memory):
    """Each piece of work is told once, with its numbers; ended, nothing more is told."""
    told = []
    end = memory.observe(told.append)
    session = talk(memory)
    built = [one for one in told if isinstance(one, RequestBuilt)]
    assert [one.context.report for one in built] == [session.report]
    assert built[0].search.legs == ("keyword",)
    assert built[0].took.seconds >= built[0].search.took.seconds > 0
    assert len([one for one in told if isinstance(one, TurnKept)]) == 32
    assert [one.search.found > 0 for one in told if isinstance(one, Searched)] == [True]
    assert [one.usage.total_tokens for one in told if isinstance(one, UsageReported)] == [94]
    summaries = [one for one in told if isinstance(one, SummaryKept)]
    assert summaries
    assert all(one.compression > 1 and one.method == "extract" for one in summaries)
    assert any(isinstance(one, StepDone) and one.projection == "summary" and not one.error for one in told)
    end()
    end()
    told.clear()
    session.context("Hello?")
    assert told == []


def test_spans(memory, collected):
    """A request is a span under the caller's, with tokens by segment; the search is a span within it."""
    tracers, meters, spans, _ = collected
    end = instrument(memory, tracer_provider=tracers, meter_provider=meters)
    with tracers.get_tracer("app").start_as_current_span("app"):
        talk(memory)
    end()
    found = spans()
    (request,), (app,) = found["langmem.request"], found["app"]
    assert request.parent.span_id == app.context.span_id
    assert request.attributes["langmem.request.tokens.constraints"] > 0
    assert request.attributes["langmem.request.tokens_used"] <= request.attributes["langmem.request.budget"] == 700
    inside = [span for span in found["langmem.recall"] if span.parent.span_id == request.context.span_id]
    assert [span.attributes["langmem.recall.legs"] for span in inside] == [("keyword",)]
    assert request.start_time <= inside[0].start_time <= inside[0].end_time <= request.end_time + 1_000_000
    assert len(found["langmem.turn"]) == 32
    assert {span.attributes["langmem.projection"] for span in found["langmem.behind"]} == {"summary"}
    memory.session("s", owner="ann@example.org").context("Again?")
    assert len(spans()["langmem.request"]) == 1


def test_metrics(memory, collected):
    """Tokens by segment, compression, retention, recall's legs and time, queue and spend, all without names."""
    tracers, meters, _, metrics = collected
    instrument(memory, tracer_provider=tracers, meter_provider=meters)
    talk(memory)
    found = metrics()
    assert {p.attributes["langmem.segment"] for p in found["langmem.request.tokens"]} >= {"constraints", "window"}
    assert all(point.min > 1 for point in found["langmem.summary.compression"])
    assert all(0 <= point.min <= point.max <= 1 for point in found["langmem.summary.retention"])
    assert [p.value for p in found["langmem.recall.legs"]] == [2]
    assert sum(p.count for p in found["langmem.recall.duration"]) == 2
    queue = {
        (p.attributes["langmem.projection"], p.attributes["langmem.state"]): p.value
        for p in found["langmem.behind.queue"]
    }
    assert queue == {("summary", "queued"): 0, ("summary", "parked"): 0}
    assert {p.attributes["gen_ai.token.type"]: p.value for p in found["langmem.usage.tokens"]} == {
        "input": 90,
        "output": 4,
    }
    assert [p.value for p in found["langmem.constraints"]] == [1]
    assert [p.value for p in found["langmem.messages"]] == [64]
    assert "ann@example.org" not in str(found)


def test_two_memories(memory, collected):
    """Two memories of one process are both counted, their queues too."""
    tracers, meters, _, metrics = collected
    with Memory.open() as other:
        for one in (memory, other):
            instrument(one, tracer_provider=tracers, meter_provider=meters)
            one.session("s", owner="ann").add("Hello", assistant("Hi"))
        assert [p.value for p in metrics()["langmem.messages"]] == [4]


def test_no_content_unless_switched_on(memory, collected):
    """G14: neither text nor names are in a span, before they are asked for."""
    tracers, meters, spans, metrics = collected
    end = instrument(memory, tracer_provider=tracers, meter_provider=meters)
    session = talk(memory)
    quiet = str([span.to_json() for named in spans().values() for span in named]) + str(metrics())
    for private in ("xyzzy42", "before noon", "museum", "plan trips", "ann@example.org"):
        assert private not in quiet
    end()
    instrument(memory, tracer_provider=tracers, meter_provider=meters, content=True, names=True)
    session.context("And museum 7?", system="You plan trips.")
    last = spans()["langmem.request"][-1]
    assert last.attributes["langmem.owner"] == "ann@example.org"
    assert last.attributes["gen_ai.conversation.id"] == "s"
    assert "And museum 7?" in last.attributes["langmem.request.messages"][-1]


def test_a_request_that_is_refused(memory, collected):
    """An error is a span with the error's class and no sentence, and a count."""
    tracers, meters, spans, metrics = collected
    instrument(memory, tracer_provider=tracers, meter_provider=meters)
    with pytest.raises(BudgetTooSmall):
        memory.session("s", owner="ann").context(SECRET * 200)
    (span,) = spans()["langmem.request"]
    assert (span.attributes["error.type"], span.status.description) == ("BudgetTooSmall", "BudgetTooSmall")
    assert [p.attributes["error.type"] for p in metrics()["langmem.request.duration"]] == ["BudgetTooSmall"]


def test_work_behind_that_fails(collected):
    """A summariser that is down shows as failed work behind and as a parked session."""
    tracers, meters, spans, metrics = collected

    def down(_prompt):
        raise RuntimeError("xyzzy42")

    with Memory.open(config=CONFIG, summarizer=down) as memory:
        instrument(memory, tracer_provider=tracers, meter_provider=meters)
        session = memory.session("s", owner="ann")
        for number in range(30):
            session.add(f"Tell me of museum {number} in the town of Lyon.", assistant(f"Museum {number} has 7 rooms."))
        memory.wait(5)
        failed = [s for s in spans()["langmem.behind"] if s.attributes.get("error.type") == "ModelFailed"]
        assert failed
        assert "xyzzy42" not in "".join(span.to_json() for span in failed)
        assert [p for p in metrics()["langmem.behind.queue"] if p.attributes["langmem.state"] == "parked"]


def test_without_a_provider(memory):
    """Off by default: OpenTelemetry without a provider drops everything, and the memory works."""
    instrument(memory)
    assert talk(memory).report is not None


def test_an_observer_that_fails(memory, caplog):
    """G8, G14: it fails no turn, and the log names its class and nothing of what was said."""

    def broken(_measure):
        raise ValueError(SECRET)

    memory.observe(broken)
    with caplog.at_level(logging.DEBUG):
        talk(memory)
    assert "a subscriber to measures failed: ValueError" in caplog.text
    assert "xyzzy42" not in caplog.text
