"""The job's trace inside tasks, in workers on threads and in processes, in both faces."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

import anyio
import asparkle_opentelemetry
import pytest
from asparkle_opentelemetry import OpenTelemetry, current_context, task_span
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode
from test_export import conf

from asparkle import JobFailed, SparkContext
from asparkle import aio as asparkle_aio

MASTERS = ["inline", "threads[2]", "processes[2]"]


@pytest.mark.parametrize("master", MASTERS)
def test_spans_that_tasks_make_are_children_of_their_attempts(http_receiver, master):
    def fetch(x):
        with task_span("fetch", {"element": x}), task_span("parse"):
            return x

    with SparkContext(conf=conf(http_receiver, master)) as sc:
        assert sc.parallelize([1, 2], 2).map(fetch).collect() == [1, 2]

    fetches, tasks = http_receiver.named("fetch"), http_receiver.named("task")
    assert {span.attributes["element"] for span in fetches} == {1, 2}
    assert {span.parent for span in fetches} == {task.id for task in tasks} and len(tasks) == 2
    for span in fetches:
        (parse,) = http_receiver.children(span)
        assert parse.name == "parse" and span.encloses(parse)
        assert http_receiver.one("job").encloses(span)
    assert {span.trace for span in http_receiver.spans} == {http_receiver.one("job").trace}
    assert {span.service for span in http_receiver.spans} == {"shop"}


def test_spans_of_failed_attempts_and_over_grpc_arrive_too(receiver):
    def fetch(x):
        with task_span("fetch"):
            raise OSError("no route")

    with SparkContext(conf=conf(receiver)) as sc, pytest.raises(JobFailed):
        sc.parallelize([1], 1).map(fetch).collect()
    fetches = receiver.named("fetch")
    assert [span.error for span in fetches] == ["OSError: no route"] * 4
    assert [span.parent for span in fetches] == [task.id for task in receiver.named("task")]


@pytest.mark.parametrize("master", MASTERS)
def test_what_code_in_a_task_calls_finds_the_attempts_span_current(http_receiver, master):
    def headers(x):
        current, given = {}, {}
        propagate.inject(current)
        propagate.inject(given, current_context())
        assert current == given
        return current["traceparent"]

    with SparkContext(conf=conf(http_receiver, master)) as sc:
        found = sc.parallelize([1, 2], 2).map(headers).collect()
        assert not trace.get_current_span().get_span_context().is_valid  # nothing stays current in the driver
    assert set(found) == {f"00-{task.trace}-{task.id}-01" for task in http_receiver.named("task")}


@pytest.mark.parametrize("master", MASTERS)
def test_coroutine_functions_in_tasks_have_their_attempts_span(http_receiver, master):
    async def fetch(x):
        with task_span("fetch", {"element": x}):
            await asyncio.sleep(0)
            with task_span("parse", {"element": x}):
                return x

    async def main():
        async with asparkle_aio.SparkContext(conf=conf(http_receiver, master)) as sc:
            return await sc.parallelize(range(6), 2).map(fetch, concurrency=3).collect()

    assert asyncio.run(main()) == list(range(6))
    fetches, tasks = http_receiver.named("fetch"), http_receiver.named("task")
    assert len(fetches) == 6 and {span.parent for span in fetches} == {task.id for task in tasks}
    for span in fetches:
        (parse,) = http_receiver.children(span)  # not of another coroutine that ran meanwhile
        assert parse.attributes == span.attributes


@pytest.mark.parametrize("master", ["threads[2]", "processes[2]"])
def test_instrumented_libraries_in_worker_processes_export_too(http_receiver, master):
    """They know of the global provider only."""

    def fetch(x):
        with trace.get_tracer("the request").start_as_current_span("GET"):
            return x

    with SparkContext(conf=conf(http_receiver, master)) as sc:
        assert sc.parallelize([1], 1).map(fetch).collect() == [1]
    if master == "threads[2]":  # the driver's own, which is the host's affair
        assert http_receiver.named("GET") == []
    else:
        assert http_receiver.one("GET").parent == http_receiver.one("task").id


# ------------------------------------------------------------------------------------ the host's own providers


@pytest.fixture
def memory():
    exporter = InMemorySpanExporter()
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter
    provider.shutdown()


@pytest.mark.parametrize("master", MASTERS)
def test_a_provider_that_is_given_gets_the_spans_and_is_left_open(memory, master):
    provider, exporter = memory
    plugin = OpenTelemetry(tracer_provider=provider)
    request = provider.get_tracer("host").start_span("request")
    with trace.use_span(request, end_on_exit=True), SparkContext(master, plugins=[plugin]) as sc:
        assert sc.parallelize([1], 1).count() == 1
    provider.get_tracer("host").start_span("later").end()
    spans = {span.name.split()[0]: span for span in exporter.get_finished_spans()}
    assert set(spans) == {"job", "stage", "task", "request", "later"}
    assert spans["job"].parent.span_id == request.get_span_context().span_id
    assert spans["stage"].parent.span_id == spans["job"].context.span_id
    assert spans["task"].parent.span_id == spans["stage"].context.span_id


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_it_is_the_same_on_any_event_loop(memory, backend):
    provider, exporter = memory

    async def main():
        async with asparkle_aio.SparkContext("threads[2]", plugins=[OpenTelemetry(tracer_provider=provider)]) as sc:
            with provider.get_tracer("host").start_as_current_span("request"):
                return await sc.parallelize([1, 2], 2).map(trace_id).collect()

    def trace_id(_):
        return trace.get_current_span().get_span_context().trace_id

    (seen,) = set(anyio.run(main, backend=backend))
    spans = exporter.get_finished_spans()
    assert len(spans) == 1 + 1 + 1 + 2 and {span.context.trace_id for span in spans} == {seen}


def test_an_attempt_whose_worker_died_is_an_error(memory, tmp_path):
    provider, exporter = memory

    def die_once(marker):
        if not marker.exists():
            marker.touch()
            os._exit(1)
        return "survived"

    with SparkContext("processes[1]", plugins=[OpenTelemetry(tracer_provider=provider)]) as sc:
        assert sc.parallelize([tmp_path / "died"], 1).map(die_once).collect() == ["survived"]
    lost, second = (span for span in exporter.get_finished_spans() if span.name == "task")
    assert lost.attributes["asparkle.task.outcome"] == "executor lost"
    assert lost.status.status_code is StatusCode.ERROR and lost.status.description
    assert second.attributes["asparkle.task.outcome"] == "success" and second.status.is_unset
    assert lost.parent.span_id == second.parent.span_id


def test_two_contexts_at_once_have_each_their_provider(memory):
    provider, exporter = memory
    others = InMemorySpanExporter()
    other = TracerProvider(shutdown_on_exit=False)
    other.add_span_processor(SimpleSpanProcessor(others))

    async def main():
        one = asparkle_aio.SparkContext("threads[1]", "one", plugins=[OpenTelemetry(tracer_provider=provider)])
        two = asparkle_aio.SparkContext("threads[1]", "two", plugins=[OpenTelemetry(tracer_provider=other)])
        async with one, two:
            await asyncio.gather(one.parallelize([1]).count(), two.parallelize([1]).count())

    asyncio.run(main())
    for name, spans in (("one", exporter), ("two", others)):
        job, _stage, _task = sorted(spans.get_finished_spans(), key=lambda span: span.name)
        assert job.attributes["asparkle.application.name"] == name


def test_what_the_sampler_leaves_out_has_no_spans_in_workers_either():
    provider = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False)

    def flags(_):
        return trace.get_current_span().get_span_context().trace_flags.sampled

    with SparkContext("processes[1]", plugins=[OpenTelemetry(tracer_provider=provider)]) as sc:
        assert sc.parallelize([1], 1).map(flags).collect() == [False]


def test_a_listener_alone_makes_traces_of_jobs(memory):
    provider, exporter = memory
    with SparkContext("threads[1]") as sc:
        sc.addListener(asparkle_opentelemetry.OpenTelemetryListener(tracer_provider=provider))
        with provider.get_tracer("host").start_as_current_span("request"):
            assert sc.parallelize([1], 1).count() == 1
    job, stage, task, request = (
        next(span for span in exporter.get_finished_spans() if span.name.startswith(name))
        for name in ("job", "stage", "task", "request")
    )
    assert job.parent is None and job.context.trace_id != request.context.trace_id
    assert job.context.trace_id == stage.context.trace_id == task.context.trace_id
    assert job.context.is_valid and stage.parent.span_id == job.context.span_id


GLOBAL = """
from asparkle import SparkContext
from asparkle_opentelemetry import task_span
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

def fetch(x):
    with task_span("fetch"):
        return x

with SparkContext("threads[1]", conf=None, plugins=["opentelemetry"]) as sc:
    assert sc.parallelize([1], 1).map(fetch).count() == 1  # nobody has configured anything
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    provider, spans, reader = TracerProvider(), InMemorySpanExporter(), InMemoryMetricReader()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(provider)
    metrics.set_meter_provider(MeterProvider([reader]))
    assert sc.parallelize([1], 1).map(fetch).count() == 1
print(sorted(span.name.split()[0] for span in spans.get_finished_spans()))
found = reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics
print("asparkle.jobs" in {metric.name for metric in found})
"""


def test_the_global_providers_are_used_from_when_they_are_set():
    done = subprocess.run([sys.executable, "-c", GLOBAL], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["['fetch', 'job', 'stage', 'task']", "True"], done.stderr
    assert done.stderr == ""


def test_outside_of_tasks_the_helpers_do_no_harm():
    with task_span("alone") as span:
        assert not span.is_recording()
    assert current_context() == trace.context_api.get_current()


def test_workers_import_neither_the_sdk_nor_an_exporter_until_a_task_makes_a_span(http_receiver):
    def imported(_):
        import sys

        return [name for name in sys.modules if name.startswith(("opentelemetry.sdk.trace.export", "grpc", "requests"))]

    with SparkContext(conf=conf(http_receiver)) as sc:
        assert sc.parallelize([1], 1).map(imported).collect() == [[]]
