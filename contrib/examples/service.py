"""A small HTTP service that runs a job for each request, and cancels it when its client goes away.

    pip install asparkle starlette uvicorn
    uvicorn --app-dir contrib/examples service:app

    curl localhost:8000/primes/100000       # how many primes there are below 100,000
    curl localhost:8000/jobs                # what runs now

The master is ``local[*]``, all CPUs that this process may use, or what ASPARKLE_MASTER says.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isqrt
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from asparkle.aio import JobCancelled, JobHandle, SparkConf, SparkContext
from asparkle.errors import JobDeadlineExceeded, TooManyJobs

SECONDS = 60  # for one request
CONF = (
    SparkConf()
    .set("spark.scheduler.mode", "FAIR")  # a long request does not hold up the short ones
    .set("asparkle.scheduler.maxConcurrentJobs", "8")
    .set("asparkle.scheduler.maxQueuedJobs", "32")
)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    async with SparkContext(os.environ.get("ASPARKLE_MASTER", "local[*]"), "service", conf=CONF) as sc:
        yield {"sc": sc}
        await sc.stop(drain=10)  # requests that are under way get their answers


async def answer_while_connected(request: Request, job: JobHandle[Any]) -> Response:
    """The job's result; a client that hangs up cancels the job."""

    async def cancel_when_gone() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            continue
        job.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel_when_gone)
        try:
            return JSONResponse({"result": await job, "seconds": round(job.metrics().seconds, 3)})
        except JobDeadlineExceeded as error:
            return JSONResponse({"error": str(error)}, status_code=504)
        except JobCancelled:
            return Response(status_code=499)  # nobody reads it
        except TooManyJobs as error:
            return JSONResponse({"error": str(error)}, status_code=503, headers={"Retry-After": "1"})
        finally:
            job.cancel()
            tasks.cancel_scope.cancel()


def is_prime(n: int) -> bool:
    return n > 1 and all(n % d for d in range(2, isqrt(n) + 1))


async def primes(request: Request) -> Response:
    """How many primes there are below a number."""
    sc: SparkContext = request.state.sc
    with sc.jobDeadline(SECONDS):
        job = sc.submit(sc.range(request.path_params["below"], numSlices=64).filter(is_prime).count)
    return await answer_while_connected(request, job)


async def jobs(request: Request) -> Response:
    """The numbers of the jobs that run."""
    return JSONResponse(request.state.sc.statusTracker().getActiveJobsIds())


app = Starlette(routes=[Route("/primes/{below:int}", primes), Route("/jobs", jobs)], lifespan=lifespan)
