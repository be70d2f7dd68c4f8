"""The machine in Prometheus' text format.

Values are made from the report at each scrape, so that nothing can be stale. Labels come from the
plan (names of processes and workers), from folders on disk (node packs) and from fixed words; none
can grow without bound: job ids, reasons and error texts are never labels.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from machine_lifecycle.health.render import process_healthy
from machine_lifecycle.model.figures import Figures
from machine_lifecycle.model.packs import PackState, PackTimes
from machine_lifecycle.model.processes import ProcessStatus
from machine_lifecycle.model.status import ConditionKind, StatusReport
from machine_lifecycle.states.names import MachineState

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE: str = CONTENT_TYPE_PLAIN_0_0_4
"""What the text is, for the header."""

_BEFORE_READY = (
    MachineState.STARTING,
    MachineState.INSTALLING,
    MachineState.CUSTOM_NODES,
    MachineState.PM_GENERATION,
    MachineState.LAUNCHING,
    MachineState.SERVICES_STARTING,
    MachineState.WORKERS_STARTING,
    MachineState.HEALTH_CHECK,
)
_WORKER_WORDS = ("starting", "standby", "idle", "busy", "paused", "draining", "gone")
_CONDITIONS = (
    ConditionKind.DEGRADED,
    ConditionKind.DRAINING,
    ConditionKind.RESUMING,
    ConditionKind.DISK_LOW,
    ConditionKind.DISK_HUNG,
    ConditionKind.CRASH_LOOP,
)


def metrics_text(report: StatusReport, figures: Mapping[int, Figures]) -> bytes:
    """One scrape."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Snapshot(report, figures))
    return generate_latest(registry)


def _gauge(
    name: str, text: str, labels: tuple[str, ...], rows: list[tuple[tuple[str, ...], float]]
) -> Metric:
    family = GaugeMetricFamily(f"machine_{name}", text, labels=labels)
    for values, number in rows:
        family.add_metric(list(values), number)
    return family


class _Snapshot(Collector):
    """One report as metric families."""

    def __init__(self, report: StatusReport, figures: Mapping[int, Figures]) -> None:
        self._report = report
        self._figures = figures

    def collect(self) -> Iterator[Metric]:
        """Every family."""
        yield from self._life()
        yield from self._processes()
        yield from self._workers()
        yield from self._packs()

    def _life(self) -> Iterator[Metric]:
        report = self._report
        info = (("machine_id", report.machine_id), ("version", report.version))
        yield _gauge(
            "info",
            "Always 1; who this is.",
            tuple(name for name, _ in info),
            [(tuple(value for _, value in info), 1)],
        )
        yield _gauge(
            "state",
            "1 for the state the machine is in, 0 for the others.",
            ("state",),
            [((state.value,), float(state.value == report.state)) for state in MachineState],
        )
        yield _gauge(
            "condition",
            "1 while the condition holds beside the state.",
            ("condition",),
            [((kind,), float(report.condition(kind) is not None)) for kind in _CONDITIONS],
        )
        spent: Counter[str] = Counter()
        now = time.time()
        for visit in report.timings:
            lasted = now - visit.started if visit.seconds is None else visit.seconds
            spent[visit.state] += max(0.0, lasted)  # type: ignore[assignment]  # counts any number
        known = {state.value for state in MachineState}
        yield _gauge(
            "state_seconds",
            "Seconds spent in each state so far, all visits and attempts together.",
            ("state",),
            [((state,), seconds) for state, seconds in spent.items() if state in known],
        )
        yield _gauge(
            "boot_seconds",
            "Seconds the latest boot attempt spent before Ready.",
            (),
            [((), self._boot_seconds(now))],
        )
        yield _gauge("boot_attempt", "Boot attempt, from 1.", (), [((), report.attempt)])
        yield _gauge("uptime_seconds", "Since the machine was opened.", (), [((), report.uptime)])
        if report.disk_free:
            told = "Bytes that are free on the workspace's disk."
            yield _gauge("disk_free_bytes", told, (), [((), report.disk_free)])
        redis = float(report.redis_connected)
        yield _gauge("redis_connected", "Whether the queue answers.", (), [((), redis)])

    def _boot_seconds(self, now: float) -> float:
        words = {state.value for state in _BEFORE_READY}
        return sum(
            max(0.0, now - visit.started if visit.seconds is None else visit.seconds)
            for visit in self._report.timings
            if visit.attempt == self._report.attempt and visit.state in words
        )

    def _processes(self) -> Iterator[Metric]:
        processes = self._report.processes
        labels = ("process", "role")

        def key(process: ProcessStatus) -> tuple[str, str]:
            return process.name, process.role.value

        yield _gauge(
            "process_up",
            "1 if the process runs and is ready.",
            labels,
            [(key(process), float(process_healthy(process))) for process in processes],
        )
        restarts = CounterMetricFamily(
            "machine_process_restarts", "Starts after the first.", labels=labels
        )
        for process in processes:
            restarts.add_metric(list(key(process)), process.restarts)
        yield restarts
        measured = [
            (key(process), self._figures[process.pid])
            for process in processes
            if process.pid is not None and process.pid in self._figures
        ]
        yield _gauge(
            "process_cpu_percent",
            "Use by the process tree, 100 is one processor.",
            labels,
            [(who, used.cpu_percent) for who, used in measured],
        )
        yield _gauge(
            "process_memory_bytes",
            "Resident memory of the process tree.",
            labels,
            [(who, used.memory_bytes) for who, used in measured],
        )
        yield _gauge(
            "process_share_bytes",
            "Memory of the process tree, shared pages divided among those that share them (PSS).",
            labels,
            [(who, used.share_bytes) for who, used in measured if used.share_bytes is not None],
        )
        yield _gauge(
            "process_threads",
            "Threads of the process tree.",
            labels,
            [(who, used.threads) for who, used in measured],
        )
        yield _gauge(
            "process_descriptors",
            "Files and sockets that the process tree holds open.",
            labels,
            [(who, used.descriptors) for who, used in measured],
        )
        yield _gauge(
            "process_gpu_memory_bytes",
            "Memory of GPUs that the process tree holds, where the driver tells.",
            labels,
            [
                (who, used.gpu_memory_bytes)
                for who, used in measured
                if used.gpu_memory_bytes is not None
            ],
        )

        yield _gauge(
            "process_gpu_percent",
            "Use of GPUs by the process tree, 100 is one GPU, where the driver tells.",
            labels,
            [(who, used.gpu_percent) for who, used in measured if used.gpu_percent is not None],
        )

    def _packs(self) -> Iterator[Metric]:
        packs = [
            ((one.instance, pack.name), pack) for one in self._report.loaded for pack in one.packs
        ]
        labels = ("instance", "pack")
        yield _gauge(
            "pack_loaded",
            "1 if the service loaded the node pack, 0 if it failed or was left out.",
            labels,
            [(key, float(pack.state is PackState.LOADED)) for key, pack in packs],
        )
        yield _gauge(
            "pack_import_seconds",
            "What the import of the node pack took at the service's last start.",
            labels,
            [(key, pack.seconds) for key, pack in packs if pack.seconds is not None],
        )
        yield from _pack_times(self._report.pack_times)

    def _workers(self) -> Iterator[Metric]:
        report = self._report
        counts = Counter(worker.status for worker in report.workers)
        yield _gauge(
            "workers",
            "Workers by what they do.",
            ("status",),
            [((word,), counts.get(word, 0)) for word in _WORKER_WORDS],
        )
        connected = sum(worker.connected for worker in report.workers)
        yield _gauge(
            "workers_connected",
            "Workers that are registered and whose service answered.",
            (),
            [((), connected)],
        )
        yield _gauge("jobs_running", "Jobs that run now.", (), [((), report.jobs_running)])
        done = CounterMetricFamily("machine_jobs", "Jobs that ended.", labels=("outcome",))
        done.add_metric(["completed"], report.jobs_completed)
        done.add_metric(["failed"], report.jobs_failed)
        yield done


def _pack_times(times: Sequence[PackTimes]) -> Iterator[Metric]:
    yield _gauge(
        "pack_boot_seconds",
        "What the node pack costs a boot, by part, as last measured.",
        ("pack", "part"),
        [
            ((one.name, part), seconds)
            for one in times
            for part, seconds in (
                ("fetch", one.fetch),
                ("install", one.install),
                ("script", one.script),
                ("import", one.imported),
            )
            if seconds is not None
        ],
    )
    yield _gauge(
        "pack_slower",
        "1 if a part of the node pack took at least a fifth longer than at the boot before.",
        ("pack",),
        [((one.name,), float(bool(one.slower))) for one in times],
    )
