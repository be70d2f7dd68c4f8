"""What a person sees of steps that run: lines and a bar on a terminal."""

from __future__ import annotations

import io

from rich.console import Console

from machine_lifecycle.cli.progress import BootView
from machine_lifecycle.cli.running_steps import RunningSteps
from machine_lifecycle.lifecycle import events
from machine_lifecycle.states.names import MachineState


def terminal(height: int = 25) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    return Console(file=out, force_terminal=True, width=80, height=height, color_system=None), out


def drawn(steps: RunningSteps, height: int = 25) -> list[str]:
    console, out = terminal(height)
    console.print(steps)
    return [line.rstrip() for line in out.getvalue().splitlines()]


def test_a_line_for_each_that_runs_and_one_bar() -> None:
    now = [100.0]
    console, out = terminal()
    steps = RunningSteps(console, "Installing", clock=lambda: now[0])
    steps.step("node A clone", "clone https://example.org/a", done=0, total=4)
    steps.step("model loras/[x]", "1.0 GiB of 6.5 GiB, 85.0 MiB/s, 1 min 6 s left", done=1, total=4)
    now[0] = 165.0
    first, second, bar = drawn(steps)
    shown = " ".join(first.split()[1:])
    assert shown == "node A clone clone https://example.org/a 1 min 5 s"
    assert "model loras/[x] 1.0 GiB of 6.5 GiB, 85.0 MiB/s, 1 min 6 s left" in second
    assert bar.startswith("Installing ━")
    assert bar.endswith("1 of 4 steps 1 min 5 s")
    steps.finished("node A clone", seconds=65.0)
    steps.step("model loras/[x]", "failed: it is another file", done=2, total=4)
    steps.finished("quick", seconds=0.1)
    steps.finished("nothing", seconds=9.0, skipped=True)
    steps.close()
    shown = out.getvalue()
    assert "✓ node A clone 1 min 5 s" in shown
    assert "✗ model loras/[x]: failed: it is another file" in shown
    assert "quick" not in shown
    assert "nothing" not in shown
    assert drawn(steps) == ["Installing ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 4 of 4 steps 1 min 5 s"]


def test_stages_add_up() -> None:
    console, _ = terminal()
    steps = RunningSteps(console)
    steps.step("clone", "clone", done=0, total=2)
    steps.finished("clone", seconds=0.5)
    steps.step("verify", "verify", done=1, total=2)
    steps.finished("verify", seconds=0.5)
    steps.finished("node A clone", seconds=0, skipped=True)
    steps.step("node B clone", "clone", done=1, total=3)
    steps.close()
    assert "3 of 5 steps" in drawn(steps)[-1]


def test_what_does_not_fit_is_counted_and_long_words_are_cut() -> None:
    console, _ = terminal()
    steps = RunningSteps(console)
    for number in range(9):
        steps.step(f"node {number} clone", "word " * 40, done=0, total=9)
    lines = drawn(steps, height=8)
    steps.close()
    assert len(lines) == 7
    assert lines[-2].strip() == "and 4 more"
    assert all(len(line) <= 80 for line in lines)
    assert "…" in lines[0]


def test_a_boot_draws_steps_of_an_installation_and_rests_between_states() -> None:
    console, out = terminal()
    view = BootView(console)
    view(
        events.StepProgressed(
            attempt=1,
            state=MachineState.INSTALLING,
            step="clone",
            detail="clone https://example.org/x",
            done=0,
            total=2,
        )
    )
    view(
        events.StepFinished(
            attempt=1, state=MachineState.INSTALLING, step="clone", seconds=2.5, skipped=False
        )
    )
    view.close()
    assert "clone https://example.org/x" in out.getvalue()
    assert "✓ clone 2.5 s" in out.getvalue()
