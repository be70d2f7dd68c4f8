"""What a person sees of a boot: a line per state, what is going on now, a table at Ready."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table

from machine_lifecycle.cli.output import human_seconds, print_error
from machine_lifecycle.cli.packs import slowest
from machine_lifecycle.cli.running_steps import RunningSteps
from machine_lifecycle.lifecycle import events
from machine_lifecycle.model.packs import Pack
from machine_lifecycle.model.status import StateTiming
from machine_lifecycle.states.names import MachineState
from machine_lifecycle.states.table import TABLE

__all__ = ["BootView", "timing_table"]

_BAD = (MachineState.FAILED,)


class BootView:
    """An observer that draws on a terminal. Elsewhere, log lines say the same."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = None
        self._steps: RunningSteps | None = None
        self._packs: dict[str, tuple[Pack, ...]] = {}

    def __call__(self, event: events.Event) -> None:
        """Draw one event."""
        match event:
            case events.Changed():
                self._changed(event)
            case events.StepProgressed() | events.StepFinished():
                self._step(event)
            case events.MachineReady():
                self._rest()
                self._console.print(timing_table(event.timings, event.seconds, self._packs))
            case events.PacksLoaded(instance=instance, packs=packs):
                self._packs[instance] = packs
            case events.MachineFailed():
                self._failed(event)
            case events.ConditionChanged(condition=kind, holds=True, reason=reason):
                self._console.print(f"[yellow]![/] {escape(kind)}: {escape(reason)}")
            case events.MachineStopped():
                self._rest()

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._rest()

    def _changed(self, event: events.Changed) -> None:
        self._rest()
        left = TABLE.spec(event.source)
        if left.activity and event.target not in (*_BAD, MachineState.STOPPING):
            self._console.print(f"[green]✓[/] {left.title} [dim]{human_seconds(event.seconds)}[/]")
        elif left.activity:
            self._console.print(f"[red]✗[/] {left.title} [dim]{human_seconds(event.seconds)}[/]")
        if TABLE.spec(event.target).activity:
            self._now(event.target, "")

    def _now(self, state: MachineState, detail: str) -> None:
        spec = TABLE.spec(state)
        text = f"{spec.title} [dim]{escape(detail or spec.summary)}[/]"
        if self._status is None:
            self._status = self._console.status(text)
            self._status.start()
        else:
            self._status.update(text)

    def _step(self, event: events.StepProgressed | events.StepFinished) -> None:
        """Steps that are counted get a line each; of others the last word is shown."""
        name = event.step
        if isinstance(event, events.StepFinished):
            if self._steps is not None:
                self._steps.finished(name, seconds=event.seconds, skipped=event.skipped)
        elif event.total:
            if self._steps is None:
                self._rest()
                self._steps = RunningSteps(self._console, TABLE.spec(event.state).title)
            self._steps.step(name, event.detail, done=event.done, total=event.total)
        elif self._steps is None:
            self._now(event.state, f"{name}: {event.detail}" if event.detail else name)

    def _failed(self, event: events.MachineFailed) -> None:
        self._rest()
        print_error(self._console, event.error)
        if event.retry_in is not None:
            self._console.print(f"  next attempt in {human_seconds(event.retry_in)}")

    def _rest(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
        if self._steps is not None:
            self._steps.close()
            self._steps = None


def timing_table(
    timings: tuple[StateTiming, ...],
    total: float,
    packs: Mapping[str, tuple[Pack, ...]] = MappingProxyType({}),
) -> Table:
    """Each state of a boot: how long it took, how long it usually takes; and the imports of node
    packs, by instance, that took longest.
    """
    drawn = Table("STATE", "TOOK", "USUALLY", box=None, header_style="bold", pad_edge=False)
    for timing in timings:
        if timing.seconds is not None:
            usual = f"{timing.expected[0]:g}-{timing.expected[1]:g} s" if timing.expected else ""
            title = TABLE.spec(MachineState(timing.state)).title
            drawn.add_row(title, human_seconds(timing.seconds), f"[dim]{usual}[/]")
        if timing.state == MachineState.SERVICES_STARTING.value:
            for instance, loaded in packs.items():
                for pack, seconds in slowest(loaded):
                    what = f"[dim]  import of {escape(pack.name)}, {escape(instance)}[/]"
                    drawn.add_row(what, f"[dim]{human_seconds(seconds)}[/]", "")
    drawn.add_row("[bold]Ready[/]", f"[bold]{human_seconds(total)}[/]", "[dim]60-300 s[/]")
    return drawn
