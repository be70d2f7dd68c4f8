"""Checks, before anything is installed, what services are to be warmed up with."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from typing import Any

from machine_lifecycle.assembly.errors import WarmUpUnusable
from machine_lifecycle.errors import as_one
from machine_lifecycle.model.plan import BootPlan, WorkerPlan
from machine_lifecycle.model.warming import VARIABLE, PayloadChecker, WarmUp, warm_ups_from

__all__ = ["check_warm_ups"]


def check_warm_ups(plan: BootPlan) -> None:
    """Read every graph that a worker of the plan will run.

    Raises:
        WarmUpUnusable: A file can't be read, or holds nothing that its service could run.
        Problems: Several of them.
    """
    specs = {spec.name: spec for spec in plan.processes}
    asked: dict[tuple[str, WarmUp], WorkerPlan] = {}
    for worker in plan.workers:
        text = specs[worker.process].command.env.get(VARIABLE, "")
        for service, warm_up in warm_ups_from(text).items():
            asked.setdefault((service, warm_up), worker)
    errors = tuple(
        WarmUpUnusable(service=service, file=warm_up.file, problems=problems)
        for (service, warm_up), worker in asked.items()
        if (problems := tuple(_problems(warm_up, worker.connectors[service])))
    )
    if errors:
        raise as_one("warm-ups", errors)


def _problems(warm_up: WarmUp, connector: str) -> Iterator[str]:
    try:
        payload: Any = json.loads(warm_up.file.read_text("utf-8"))
    except OSError as error:
        yield error.strerror or str(error)
        return
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, or nested too deep
        yield f"it is no JSON: {error}"
        return
    if not isinstance(payload, dict):
        yield f"it holds no object but {type(payload).__name__}"
        return
    module, _, attribute = connector.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        return  # whoever needs it says so, with the connector's name
    if isinstance(made, PayloadChecker):
        yield from made.payload_problems(payload)
