"""One prompt's way, told in the dialects of three versions."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from machine_lifecycle.connectors import comfyui_events as events
from machine_lifecycle.connectors.comfyui_run import Ending, PromptRun
from machine_lifecycle.model.jobs import NodeFailure

_GRAPH = {
    "1": {"class_type": "EmptyImage"},
    "2": {"class_type": "KSampler"},
    "3": {"class_type": "SaveImage"},
    "4": {"class_type": "PreviewImage"},
}
_FAILURE = NodeFailure(node="2", node_type="KSampler", message="no", kind="ValueError")


def _told(script: Iterable[events.Event]) -> tuple[PromptRun, list[float]]:
    run = PromptRun("mine", _GRAPH)
    fractions = []
    for event in script:
        run.feed(event)
        fractions.append(round(run.progress.fraction, 3))
    return run, fractions


_FORK = [
    events.Started("mine"),
    events.Cached("mine", ()),
    events.Executing("mine", "1", "EmptyImage"),
    events.Executing("mine", "1"),
    events.Executing("mine", "2", "KSampler"),
    events.Executing("mine", "2"),
    events.StepDone("mine", "2", 1, 4),
    events.StepDone("mine", "2", 4, 4),
    events.Executing("mine", "3"),
    events.Executed("mine", "3", {}),
    events.Executing("mine", "4"),
    events.Executed("mine", "4", {}),
    events.Succeeded("mine"),
    events.Executing("mine", None),
]

_NEWER = [
    events.Started("mine"),
    events.Cached("mine", ("1",)),
    events.NodeStates("mine", (), {"2": (0.0, 1.0)}),
    events.Executing("mine", "2"),
    events.NodeStates("mine", (), {"2": (1.0, 4.0)}),
    events.StepDone("mine", "2", 1, 4),
    events.NodeStates("mine", ("2",), {}),
    events.NodeStates("mine", ("2",), {"3": (0.0, 1.0)}),
    events.Executed("mine", "3", {}),
    events.Succeeded("mine"),
    events.Executing("mine", None),
]


def test_the_forks_story():
    run, fractions = _told(_FORK)
    assert fractions == [
        0.0, 0.0, 0.0, 0.0, 0.25, 0.25, 0.312, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0, 1.0,
    ]  # fmt: skip
    assert run.finished
    assert run.ending is Ending.SUCCESS


def test_the_newer_story_with_a_cached_node():
    run, fractions = _told(_NEWER)
    assert fractions == [0.0, 0.25, 0.25, 0.25, 0.312, 0.312, 0.5, 0.5, 0.75, 1.0, 1.0]
    assert run.finished


def test_frames_of_other_prompts_change_nothing():
    run = PromptRun("mine", _GRAPH)
    assert not run.feed(events.Executing("other", None))
    assert not run.feed(events.Succeeded("other"))
    assert not run.feed(events.QueueStatus(0))
    assert not run.feed(events.Executing("", "2"))
    assert not run.started
    assert not run.finished


def test_the_null_alone_ends_it_but_does_not_say_how():
    run, _ = _told([events.Started("mine"), events.Executing("mine", None)])
    assert run.finished
    assert run.ending is None


def test_what_comes_after_the_end_is_ignored():
    run, _ = _told([*_FORK, events.Interrupted("mine", "2")])
    assert run.ending is Ending.SUCCESS


@pytest.mark.parametrize(
    ("event", "ending"),
    [
        (events.Interrupted("mine", "2"), Ending.INTERRUPTED),
        (events.Failed("mine", _FAILURE, ("line",)), Ending.ERROR),
    ],
)
def test_other_endings(event: events.Event, ending: Ending):
    run, fractions = _told([*_FORK[:7], event, events.Executing("mine", None)])
    assert run.ending is ending
    assert run.node == "2"
    assert fractions[-1] == pytest.approx(0.312)


def test_progress_never_falls_when_a_node_begins_anew():
    _, fractions = _told(
        [
            events.Executing("mine", "2"),
            events.StepDone("mine", "2", 9, 10),
            events.StepDone("mine", "2", 1, 10),
            events.StepDone("mine", "2", 20, 10),
            events.StepDone("mine", "2", 5, 0),
        ]
    )
    assert fractions == sorted(fractions)
    assert max(fractions) <= 0.25


def test_progress_tells_node_and_step():
    run, _ = _told(_FORK[:7])
    progress = run.progress
    assert progress.message == "node 2 (KSampler)"
    assert (progress.step, progress.steps) == (1, 4)
    assert PromptRun("p", {}).progress.message == "waiting"


def test_nodes_that_the_service_adds_do_not_count():
    _, fractions = _told([events.Cached("mine", tuple(f"1.0.0.{n}" for n in range(50)))])
    assert fractions == [0.0]


_SHOWING = [
    events.Started("mine"),
    events.Cached("mine", ("1", "4")),
    events.Executed("mine", "3", {"images": [1]}),
    events.Executed("mine", "1", {}),
    events.Executed("mine", "4", {"images": [2]}),
]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(_SHOWING, id="it has not ended"),
        pytest.param([*_SHOWING, events.Failed("mine", _FAILURE)], id="it failed"),
        pytest.param([*_SHOWING[1:], events.Succeeded("mine")], id="its beginning was not heard"),
        pytest.param(
            [*_SHOWING[:-1], events.Succeeded("mine")], id="a cached node showed nothing now"
        ),
    ],
)
def test_what_was_shown_is_not_known_from_a_part_of_the_events(script: list[events.Event]) -> None:
    run, _ = _told(script)
    assert run.shown is None


def test_what_was_shown_is_known_from_all_events() -> None:
    run, _ = _told([*_SHOWING, events.Succeeded("mine")])
    assert run.shown == {"3": {"images": [1]}, "1": {}, "4": {"images": [2]}}
    run.missed()
    assert run.shown is None, "some may have been lost with the socket"
