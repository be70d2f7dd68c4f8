"""A boot as log lines, for containers and files."""

from __future__ import annotations

import logging

from machine_lifecycle.cli.output import human_seconds
from machine_lifecycle.cli.packs import costliest, pack_summary, parts_of, slowest
from machine_lifecycle.lifecycle import events
from machine_lifecycle.model.packs import Pack
from machine_lifecycle.model.processes import ProcessState, ProcessStatus
from machine_lifecycle.model.status import ConditionKind
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import TABLE

__all__ = ["Narrator"]


class Narrator:
    """An observer that logs what a reader of ``docker logs`` wants to know."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._packs: dict[str, tuple[Pack, ...]] = {}
        self._degraded = ""

    def __call__(self, event: events.Event) -> None:  # noqa: C901, PLR0912 - one case per event
        """Log one event."""
        log = self._log
        match event:
            case events.Changed():
                source, target = TABLE.spec(event.source).title, TABLE.spec(event.target).title
                log.info(
                    "%s -> %s (%s) %s", source, target, event.why, human_seconds(event.seconds)
                )
            case events.StepProgressed():
                log.debug("%s: %s %s", event.state.value, event.step, event.detail)
            case events.StepFinished(skipped=True):
                log.info("%s: nothing to do", event.step)
            case events.StepFinished():
                log.info("%s: done in %s", event.step, human_seconds(event.seconds))
            case events.ProcessChanged(process=process):
                self._process(process)
            case events.JobStarted():
                log.info("job %s taken by %s", event.job_id, event.worker_id)
            case events.JobFinished():
                log.info("job %s %s", event.job_id, event.outcome)
            case events.PacksLoaded():
                self._loaded(event)
            case events.PacksTimed():
                self._timed(event)
            case events.ConditionChanged():
                if event.condition == ConditionKind.DEGRADED:
                    self._degraded = event.reason if event.holds else ""
                log.warning("condition %s %s", event.condition, _holds(event))
            case events.MachineReady():
                self._ready(event)
            case events.MachineFailed():
                self._failed(event)
            case events.MachineStopped():
                log.info("stopped, exit code %d%s", event.exit_code, _after_colon(event.reason))

    def _process(self, process: ProcessStatus) -> None:
        """What goes well is for those who look closely; an end is for everybody."""
        how = f"ended ({process.last_exit.reason})" if process.last_exit else "can't be started"
        if process.state is ProcessState.BACKOFF:
            self._log.warning("%s %s and is tried again", process.name, how)
        elif process.state is ProcessState.FATAL:
            self._log.error("%s %s and is given up", process.name, how)
        elif process.ready and process.restarts:
            self._log.info("%s is ready again, restart %d", process.name, process.restarts)
        else:
            self._log.debug("process %s: %s", process.name, process.state.value)

    def _ready(self, event: events.MachineReady) -> None:
        for timing in event.timings:
            if timing.seconds is not None:
                usual = (
                    f"usually {timing.expected[0]:g}-{timing.expected[1]:g} s"
                    if (timing.expected)
                    else ""
                )
                title = TABLE.spec(MachineState(timing.state)).title
                self._log.info("%-17s %9s  %s", title, human_seconds(timing.seconds), usual)
        for instance, packs in self._packs.items():
            for pack, seconds in slowest(packs):
                took = human_seconds(seconds)
                self._log.info("%-17s %9s  import of %s", instance, took, pack.name)
        took = human_seconds(event.seconds)
        degraded = f", degraded: {self._degraded}" if self._degraded else ""
        self._log.info("machine %s is ready in %s%s", event.machine_id, took, degraded)

    def _loaded(self, event: events.PacksLoaded) -> None:
        self._packs[event.instance] = event.packs
        if event.packs:
            self._log.info("%s: %s", event.instance, pack_summary(event.packs))

    def _timed(self, event: events.PacksTimed) -> None:
        for one in costliest(event.times):
            self._log.info("%-17s %9s  %s", one.name, human_seconds(one.total), parts_of(one))
        for one in event.times:
            if one.slower:
                self._log.warning("%s got slower: %s", one.name, "; ".join(one.slower))

    def _failed(self, event: events.MachineFailed) -> None:
        for part in event.error.get("errors", [event.error]):
            where = f" at {part['where']}" if part["where"] else ""
            self._log.error("%s [%s]%s", part["summary"], part["code"], where)
            for line in part["context"]:
                self._log.error("| %s", line)
            for remedy in part["remedies"]:
                self._log.error("remedy: %s%s", remedy["text"], _after_colon(remedy["command"]))
        if event.retry_in is not None:
            self._log.warning("next attempt in %s", human_seconds(event.retry_in))


def _after_colon(text: str | None) -> str:
    return f": {text}" if text else ""


def _holds(event: events.ConditionChanged) -> str:
    return f"holds{_after_colon(event.reason)}" if event.holds else "is over"
