"""A connector of a service that runs."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Mapping
from typing import Any

from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.jobs import Job, JobResult, Progress
from machine_lifecycle.model.ports import Connector
from machine_lifecycle.testing.rules import PATIENCE, Rules

__all__ = ["check_connector"]


async def check_connector(connector: Connector, *, payload: Mapping[str, Any]) -> JobResult:
    """Enter a connector of a running service, look, do a job, cancel one, leave.

    Args:
        connector: Not entered yet.
        payload: Of a job that the service can do.

    Returns:
        What the job made.

    Raises:
        RulesBroken: With every rule that does not hold.
        LifecycleError: The job failed.
    """
    rules = Rules(type(connector).__name__)
    for name in ("probe", "run", "cancel", "capabilities"):
        method = getattr(connector, name, None)
        rules.hold(inspect.iscoroutinefunction(method), f"{name}() is no coroutine function")
    rules.hold(hasattr(type(connector), "from_env"), "it has no from_env(): no worker can make it")
    rules.judge()
    told: list[Progress] = []
    async with connector as entered:
        rules.hold((await entered.probe()).healthy, "probe() is not healthy, and the service runs")
        proved = await entered.capabilities()
        rules.hold(isinstance(proved, Mapping), "capabilities() is no mapping")
        result = await entered.run(_job("check-1", payload), told.append)
        _check_result(rules, result)
        for one in told:
            inside = 0.0 <= one.fraction <= 1.0
            rules.hold(inside, f"progress of {one.fraction}: it goes from 0 to 1")
        unknown = await entered.cancel("never-heard-of")
        rules.hold(unknown is False, "cancel() of a job that it does not have is not False")
        await _check_cancelling(rules, entered, payload)
        healthy = (await entered.probe()).healthy
        rules.hold(healthy, "probe() is not healthy any more after a cancelled job")
    rules.judge()
    return result


def _check_result(rules: Rules, result: JobResult) -> None:
    if not isinstance(result, JobResult):
        rules.hold(False, "run() returns no JobResult")  # noqa: FBT003
        return
    try:
        json.dumps(result.data)
    except (TypeError, ValueError) as error:
        rules.hold(False, f"the result's data is no JSON: {error}")  # noqa: FBT003
    for output in result.outputs:
        plain = bool(output.name) and "/" not in output.name
        rules.hold(plain, f"an output is called {output.name!r}: a name without a folder, please")
        rules.hold(bool(output.mime), f"the output {output.name} has no MIME type")


async def _check_cancelling(rules: Rules, connector: Connector, payload: Mapping[str, Any]) -> None:
    task = asyncio.ensure_future(connector.run(_job("check-2", payload), lambda _: None))
    await asyncio.sleep(0)  # it has begun
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=PATIENCE)
    rules.hold(bool(done), f"a cancelled run() has not ended after {PATIENCE:g} s")
    if done and not task.cancelled() and (error := task.exception()) is not None:
        ours = isinstance(error, LifecycleError)
        rules.hold(ours, f"a cancelled run() raises {type(error).__name__}")


def _job(identity: str, payload: Mapping[str, Any]) -> Job:
    return Job(id=identity, service_required="check", payload=payload, timeout=60.0)
