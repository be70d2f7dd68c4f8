"""The JSON of the pages, made from a report. Pure.

``status`` of a process is said in PM2's words, which existing hubs and dashboards read; ``state``
beside it is ours and says more.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.processes import ProcessState, ProcessStatus
from machine_lifecycle.model.status import ConditionKind, StatusReport
from machine_lifecycle.model.wire import to_json_value
from machine_lifecycle.states.names import MachineState

__all__ = [
    "health_value",
    "live_value",
    "process_healthy",
    "process_value",
    "ready_value",
    "status_value",
]

_SERVING = (MachineState.READY.value, MachineState.PROCESSING.value)

_PM2_WORDS = {
    ProcessState.WAITING: "launching",
    ProcessState.STARTING: "launching",
    ProcessState.RUNNING: "online",
    ProcessState.BACKOFF: "waiting restart",
    ProcessState.STOPPING: "stopping",
    ProcessState.STOPPED: "stopped",
    ProcessState.EXITED: "stopped",
    ProcessState.FATAL: "errored",
}


def process_healthy(process: ProcessStatus) -> bool:
    """Whether a process runs and all its readiness conditions hold."""
    return process.state is ProcessState.RUNNING and process.ready


def process_value(process: ProcessStatus, figures: Mapping[int, Figures]) -> dict[str, Any]:
    """One process: all of its status, PM2's words for it, and what it uses.

    ``uptime`` is milliseconds, ``memory`` and ``share`` (of what is shared, its part) bytes,
    ``cpu`` percent of one processor; the last three are ``null`` where nobody measured.
    """
    used = figures.get(process.pid) if process.pid is not None else None
    running = process.pid is not None and process.started is not None
    seconds = time.time() - process.started if running and process.started is not None else 0.0
    return {
        **to_json_value(process),
        "status": _PM2_WORDS[process.state],
        "healthy": process_healthy(process),
        "uptime": max(0, round(seconds * 1000)),
        "cpu": round(used.cpu_percent, 1) if used else None,
        "memory": used.memory_bytes if used else None,
        "share": used.share_bytes if used else None,
    }


def health_value(report: StatusReport) -> dict[str, Any]:
    """The body of ``/health``; its ``healthy`` decides between 200 and 503."""
    services: dict[str, Any] = {
        process.name: {
            "healthy": process_healthy(process),
            "status": _PM2_WORDS[process.state],
            "pid": process.pid,
            "restarts": process.restarts,
        }
        for process in report.processes
    }
    services["status-aggregator"] = {
        "healthy": report.redis_connected,
        "error": None if report.redis_connected else _queue_trouble(report),
    }
    problems = _problems(report)
    degraded = report.condition(ConditionKind.DEGRADED)
    return {
        "healthy": not problems,
        "services": services,
        "uptime": round(report.uptime * 1000),
        "state": report.state,
        **({"error": "; ".join(problems)} if problems else {}),
        **({"degraded": degraded.reason} if degraded else {}),
    }


def _problems(report: StatusReport) -> list[str]:
    """Why the machine is not healthy; empty if it is."""
    problems = [] if report.state in _SERVING else [_state_in_words(report)]
    if not report.redis_connected:
        problems.append(_queue_trouble(report))
    troubles = {worker.process: worker.trouble for worker in report.workers if worker.trouble}
    problems += [
        f"{process.name} is {process.state.value}"
        + (f", waiting for {process.waiting_for}" if process.waiting_for else "")
        + (f": {troubles[process.name]}" if process.name in troubles else "")
        for process in report.processes
        if process.essential and not process_healthy(process)
    ]
    return problems


def _queue_trouble(report: StatusReport) -> str:
    return report.redis_trouble or "Redis is not connected"


def _state_in_words(report: StatusReport) -> str:
    if report.failure is not None and report.state not in _SERVING:
        return f"{report.state}: {report.failure.get('summary', 'unknown cause')}"
    waiting = f", waiting for {'; '.join(report.waiting)}" if report.waiting else ""
    return f"the machine is in {report.state}{waiting}"


def ready_value(report: StatusReport) -> dict[str, Any]:
    """The body of ``/ready``; its ``ready`` decides between 200 and 503."""
    draining = report.condition(ConditionKind.DRAINING)
    if report.state not in _SERVING:
        reason = _state_in_words(report)
    elif draining is not None:
        reason = f"draining: {draining.reason}"
    else:
        reason = ""
    return {"ready": not reason, "state": report.state, "reason": reason}


def live_value(report: StatusReport) -> dict[str, Any]:
    """The body of ``/live``: whoever reads it has seen the event loop answer."""
    return {"live": True, "state": report.state}


def status_value(report: StatusReport, figures: Mapping[int, Figures] | None = None) -> Any:
    """The whole report, and the fields older readers know.

    ``uptime`` is milliseconds as in ``/health``; ``uptime_seconds`` is the report's own;
    ``now`` is the machine's clock, for a reader whose own is off.
    """
    return {
        **to_json_value(report),
        "uptime": round(report.uptime * 1000),
        "uptime_seconds": report.uptime,
        "now": time.time(),
        "pm2Mode": False,
        "services": {
            process.name: process_value(process, figures or {}) for process in report.processes
        },
    }
