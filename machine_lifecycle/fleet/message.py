"""The status message of a machine, as a hub reads it."""

from __future__ import annotations

from typing import Any

from machine_lifecycle.model.plan import BootPlan
from machine_lifecycle.model.processes import ProcessState
from machine_lifecycle.model.status import ConditionKind, StatusReport

__all__ = ["status_message"]


def status_message(
    report: StatusReport, plan: BootPlan | None, update_type: str, now_ms: int
) -> dict[str, Any]:
    """One message for ``machine:status:{id}``.

    Args:
        report: How the machine is.
        plan: What it runs, once that is known.
        update_type: ``periodic``, ``event_driven``, ``machine_ready`` or ``shutdown``.
        now_ms: Milliseconds since 1970.
    """
    degraded = report.condition(ConditionKind.DEGRADED)
    return {
        "machine_id": report.machine_id,
        "timestamp": now_ms,
        "update_type": update_type,
        "structure": _structure(report, plan),
        "status": {
            "machine": {
                "phase": "shutdown" if update_type == "shutdown" else report.phase,
                "uptime_ms": round(report.uptime * 1000),
                "state": report.state,
                "conditions": [condition.kind for condition in report.conditions],
                "degraded": degraded.reason if degraded else "",
                "error": (report.failure or {}).get("summary", ""),
            },
            "workers": {
                worker.id: {
                    "is_connected": worker.connected,
                    "status": worker.status,
                    "current_job_id": worker.current_job_id or None,
                    "last_activity": round(worker.last_activity * 1000),
                    "version": report.version,
                    "jobs_completed": worker.jobs_completed,
                    "jobs_failed": worker.jobs_failed,
                }
                for worker in report.workers
            },
            "services": _services(report, plan),
        },
        "health_url": f"{report.health_url}/health" if report.health_url else "",
    }


def _structure(report: StatusReport, plan: BootPlan | None) -> dict[str, Any]:
    workers = plan.workers if plan else ()
    bound = {gpu.index: gpu for gpu in report.hardware.gpus}
    return {
        "gpu_count": len(report.hardware.gpus),
        "capabilities": list(plan.capabilities if plan else report.capabilities),
        "workers": {
            worker.id: {
                "worker_id": worker.id,
                "pm2_name": worker.process,
                "gpu_id": worker.gpu,
                "worker_type": worker.type,
                "resource_binding": "gpu" if worker.gpu in bound else "shared",
                "services": list(worker.capabilities),
                "connectors": list(worker.connectors),
            }
            for worker in workers
        },
        "services": {
            f"{worker.id}.{service}": {
                "worker_id": worker.id,
                "service_type": service,
                "pm2_name": _process_of(plan, worker.instances, service),
                "status": "unknown",
                "health": "unknown",
            }
            for worker in workers
            for service in worker.connectors
        },
    }


def _services(report: StatusReport, plan: BootPlan | None) -> dict[str, Any]:
    states = {status.name: status for status in report.processes}
    connected = {worker.id for worker in report.workers if worker.connected}
    found: dict[str, Any] = {}
    for worker in plan.workers if plan else ():
        for service in worker.connectors:
            name = _process_of(plan, worker.instances, service)
            process = states.get(name)
            if process is None:
                # Runs elsewhere: what its worker says is all there is to know.
                up = worker.id in connected
                state = "online" if up else "unknown"
            else:
                up = process.ready
                state = "online" if process.state is ProcessState.RUNNING else process.state.value
            found[f"{worker.id}.{service}"] = {
                "worker_id": worker.id,
                "service_type": service,
                "status": "active" if up else "inactive",
                "health": "healthy" if up else "unhealthy",
                "pm2_status": state,
            }
    return found


def _process_of(plan: BootPlan | None, instances: tuple[str, ...], service: str) -> str:
    known = {instance.id: instance.service for instance in plan.instances} if plan else {}
    return next((name for name in instances if known.get(name) == service), "")
