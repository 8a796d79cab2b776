"""Spans and metrics as a collector gets them, over real HTTP and gRPC, of real jobs in worker processes."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from asparkle import JobCancelled, JobFailed, SparkConf, SparkContext
from asparkle import aio as asparkle_aio
from asparkle.events import TaskStarted

requests = TracerProvider(shutdown_on_exit=False).get_tracer("the request")


def conf(receiver, master="processes[2]"):
    return SparkConf().setAll(
        [
            ("spark.master", master),
            ("spark.app.name", "shop"),
            ("asparkle.plugins", "opentelemetry"),
            ("asparkle.opentelemetry.endpoint", receiver.endpoint),
            ("asparkle.opentelemetry.protocol", receiver.protocol),
        ]
    )


def ids(span):
    """Of a span of the SDK, as receivers have them."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def fail_at_first(marker):
    """A function that fails the first attempt that comes by."""

    def function(x):
        if x == 1 and not marker.exists():
            marker.touch()
            raise ValueError("not yet")
        return x

    return function


def test_a_job_with_a_shuffle_is_a_tree_of_spans(receiver):
    with SparkContext(conf=conf(receiver)) as sc, requests.start_as_current_span("request") as request:
        sc.setJobGroup("nightly", "count words")
        sc.addJobTag("report")
        words = sc.parallelize(["a b", "b c"], 2).flatMap(str.split).map(lambda word: (word, 1))
        assert sorted(words.reduceByKey(lambda a, b: a + b, 3).collect()) == [("a", 1), ("b", 2), ("c", 1)]
        application = sc.applicationId

    job = receiver.one("job count words")
    assert (job.trace, job.parent) == ids(request)
    assert job.start >= request.start_time and job.end <= request.end_time
    assert job.error is None and job.service == "shop"
    assert {key.removeprefix("asparkle."): value for key, value in job.attributes.items()} == {
        "application.id": application,
        "application.name": "shop",
        "master": "processes[2]",
        "job.id": 0,
        "job.description": "count words",
        "job.group": "nightly",
        "job.tags": ["report"],
        "job.pool": "default",
        "job.stages": 2,
        "job.partitions": 3,
        "job.outcome": "success",
    }
    maps, reduces = receiver.children(job)
    assert maps.name.startswith("stage map") and reduces.name.startswith("stage shuffled")
    assert maps.end <= reduces.start
    assert [(stage.attributes["asparkle.stage.tasks"]) for stage in (maps, reduces)] == [2, 3]
    for stage in (maps, reduces):
        tasks = receiver.children(stage)
        assert {task.attributes["asparkle.task.partition"] for task in tasks} == set(range(len(tasks)))
        assert len(tasks) == stage.attributes["asparkle.stage.tasks"]
        assert job.encloses(stage) and all(stage.encloses(task) for task in tasks)
        for task in tasks:
            assert task.error is None and task.attributes["asparkle.task.outcome"] == "success"
            assert task.attributes["asparkle.executor.id"] in "01"
            assert task.attributes["asparkle.executor.host"] == "localhost"
            assert 0 < task.attributes["asparkle.task.run_seconds"] <= (task.end - task.start) / 1e9
    written = sum(task.attributes["asparkle.task.shuffle_write_records"] for task in receiver.children(maps))
    read = sum(task.attributes.get("asparkle.task.shuffle_read_records", 0) for task in receiver.children(reduces))
    assert written == read == 4
    assert {span.trace for span in receiver.spans} == {job.trace}
    assert len({span.id for span in receiver.spans}) == len(receiver.spans) == 1 + 2 + 5


def test_what_failed_has_the_errors_message_and_a_retried_task_a_span_for_each_attempt(receiver, tmp_path):
    with SparkContext(conf=conf(receiver)) as sc:
        assert sc.parallelize([0, 1], 2).map(fail_at_first(tmp_path / "failed")).collect() == [0, 1]
        with pytest.raises(JobFailed, match="division by zero"):
            sc.parallelize([0], 1).map(lambda x: 1 / x).collect()

    retried, failed = receiver.named("job")
    assert retried.parent == failed.parent == "" and retried.trace != failed.trace
    assert retried.error is None
    (stage,) = receiver.children(retried)
    attempts = [task for task in receiver.children(stage) if task.attributes["asparkle.task.partition"] == 1]
    first = attempts[0].attributes["asparkle.task.attempt"]
    assert [task.attributes["asparkle.task.attempt"] for task in attempts] == [first, first + 1]
    assert [task.attributes["asparkle.task.outcome"] for task in attempts] == ["failed", "success"]
    assert [task.error for task in attempts] == ["ValueError: not yet", None]
    assert attempts[0].events == [("exception", {"exception.type": "ValueError", "exception.message": "not yet"})]

    assert failed.error.endswith("ZeroDivisionError: division by zero")
    assert failed.attributes["asparkle.job.outcome"] == "task"
    (stage,) = receiver.children(failed)
    assert stage.error == failed.error and stage.attributes["asparkle.stage.outcome"] == "failed"
    tasks = receiver.children(stage)
    assert [task.error for task in tasks] == ["ZeroDivisionError: division by zero"] * 4
    assert all(failed.encloses(stage) and stage.encloses(task) for task in tasks)


def test_a_cancelled_job_says_so(receiver, tmp_path):
    def wait(begun):
        import time

        begun.touch()
        time.sleep(60)

    async def main():
        async with asparkle_aio.SparkContext(conf=conf(receiver)) as sc:
            sc.setJobGroup("slow", None)
            job = sc.submit(sc.parallelize([tmp_path / "begun"], 1).map(wait).collect)
            while not (tmp_path / "begun").exists():
                await asyncio.sleep(0.002)
            await sc.cancelJobGroup("slow")
            with pytest.raises(JobCancelled):
                await job.result()
            assert await sc.parallelize([1], 1).count() == 1  # in the worker that was interrupted

    asyncio.run(main())
    cancelled, _ = receiver.named("job")
    assert cancelled.error == "job group 'slow' was cancelled"
    assert cancelled.attributes["asparkle.job.outcome"] == "cancelled"
    (stage,) = receiver.children(cancelled)
    (task,) = receiver.children(stage)
    assert task.attributes["asparkle.task.outcome"] == "killed" and task.error is None
    assert task.start >= stage.start and task.end >= stage.end  # it went on for a moment


def test_metrics_count_what_happened(receiver, tmp_path):
    with SparkContext(conf=conf(receiver)) as sc:
        pairs = sc.parallelize(range(10), 2).map(lambda x: (x % 5, x))
        assert pairs.groupByKey(2).count() == 5
        assert sc.parallelize([0, 1], 2).map(fail_at_first(tmp_path / "failed")).collect() == [0, 1]
        with pytest.raises(JobFailed):
            sc.parallelize([0], 1).map(lambda x: 1 / x).collect()

    assert receiver.counted("asparkle.jobs", outcome="success") == 2
    assert receiver.counted("asparkle.jobs", outcome="task") == 1
    assert receiver.counted("asparkle.tasks", outcome="success") == 4 + 2
    assert receiver.counted("asparkle.tasks", outcome="failed") == 1 + 4
    count, seconds = receiver.counted("asparkle.job.duration", outcome="success")
    assert count == 2 and seconds > 0
    count, seconds = receiver.counted("asparkle.task.duration", outcome="success")
    assert count == 6 and seconds > 0
    assert receiver.counted("asparkle.stage.duration", outcome="success")[0] == 3
    written = receiver.counted("asparkle.task.records", kind="shuffle write")
    assert written == receiver.counted("asparkle.task.records", kind="shuffle read") == 10
    assert receiver.counted("asparkle.task.io", kind="shuffle write") > 0
    assert receiver.counted("asparkle.executors", **{"asparkle.application.name": "shop"}) in (
        1,
        2,
    )  # one may be slow to start


def test_two_requests_of_a_service_have_each_their_job(http_receiver):
    """Starlette, in whose requests jobs run at once."""
    from starlette.applications import Starlette
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def total(request):
        with requests.start_as_current_span(request.path_params["name"]) as span:
            spans[request.path_params["name"]] = span
            rdd = request.app.state.sc.parallelize(range(100), 2).map(meet)
            return PlainTextResponse(str(await rdd.sum()))

    async def get(app, path):
        parts = []

        async def send(message):
            parts.append(message.get("body", b""))

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], "app": app}
        await app(scope, receive, send)
        return b"".join(parts)

    async def main():
        app = Starlette(routes=[Route("/total/{name}", total)])
        async with asparkle_aio.SparkContext(conf=conf(http_receiver)) as app.state.sc:
            return await asyncio.gather(get(app, "/total/ann"), get(app, "/total/bob"))

    def meet(x):
        import time

        time.sleep(0.001)
        return x

    spans = {}
    assert asyncio.run(main()) == [b"4950", b"4950"]
    one, two = http_receiver.named("job")
    assert {(job.trace, job.parent) for job in (one, two)} == {ids(spans["ann"]), ids(spans["bob"])}
    assert one.trace != two.trace
    assert one.start < two.end and two.start < one.end  # they ran at once
    for job in (one, two):
        (stage,) = http_receiver.children(job)
        assert len(http_receiver.children(stage)) == 2
        assert {span.trace for span in (stage, *http_receiver.children(stage))} == {job.trace}


def test_jobs_that_an_action_runs_on_the_way_are_the_requests_too(http_receiver):
    with SparkContext(conf=conf(http_receiver)) as sc, requests.start_as_current_span("request") as request:
        assert sc.parallelize([3, 1, 2], 2).sortBy(lambda x: x).collect() == [1, 2, 3]
    jobs = http_receiver.named("job")
    assert len(jobs) > 1  # it looks at the keys first
    assert {(job.trace, job.parent) for job in jobs} == {ids(request)}


def test_a_message_that_brings_a_trace_along(http_receiver):
    """Without a current span, a local property says what the job belongs to."""
    with SparkContext(conf=conf(http_receiver)) as sc:
        sc.setLocalProperty("traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
        assert sc.parallelize([1]).count() == 1
        assert sc.getLocalProperty("traceparent").endswith("-0123456789abcdef-01")
    job = http_receiver.one("job")
    assert (job.trace, job.parent) == ("0123456789abcdef0123456789abcdef", "0123456789abcdef")


def test_a_trace_that_is_not_sampled_is_not_sent(http_receiver):
    unsampled = trace.SpanContext(0xABC, 0xDEF, False, trace.TraceFlags(0))

    def current(_):
        return trace.get_current_span().get_span_context().trace_flags.sampled

    with SparkContext(conf=conf(http_receiver)) as sc, trace.use_span(trace.NonRecordingSpan(unsampled)):
        assert sc.parallelize([1], 1).map(current).collect() == [False]
    assert http_receiver.spans == []
    assert http_receiver.counted("asparkle.jobs") == 1


def test_a_job_that_runs_when_its_context_stops_has_a_span(http_receiver):
    async def main():
        async with asparkle_aio.SparkContext(conf=conf(http_receiver)) as sc:
            started = asyncio.Event()
            loop = asyncio.get_running_loop()
            sc.addListener(lambda event: loop.call_soon_threadsafe(started.set), TaskStarted)
            sc.submit(sc.parallelize([60], 1).map(__import__("time").sleep).collect)
            await started.wait()

    asyncio.run(main())
    assert http_receiver.one("job").error is not None
    assert {span.name.split()[0] for span in http_receiver.spans} == {"job", "stage", "task"}
