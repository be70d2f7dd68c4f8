"""The order of prompts."""

from __future__ import annotations

from machine_lifecycle.simulation.queue import Prompt, PromptQueue


def _prompt(number: float, name: str) -> Prompt:
    return Prompt(number=number, id=name, graph={}, extra={}, outputs=())


def test_lower_numbers_first_and_equal_ones_in_order_of_arrival() -> None:
    changes: list[int] = []
    queue = PromptQueue(lambda: changes.append(1))
    for prompt in (_prompt(1, "b"), _prompt(1, "c"), _prompt(-2, "a"), _prompt(0.5, "d")):
        queue.put(prompt)
    assert [row[1] for row in queue.rows()["queue_pending"]] == ["a", "d", "b", "c"]
    first = queue.take()
    assert first is not None
    assert (first.id, queue.remaining()) == ("a", 4)
    assert queue.history("a") == {}
    queue.done(first, {"outputs": {}})
    assert queue.history("a")["a"]["prompt"][1] == "a"
    assert len(changes) == 6


def test_a_closed_queue_gives_nothing() -> None:
    queue = PromptQueue(lambda: None)
    queue.put(_prompt(1, "a"))
    queue.close()
    assert queue.take() is None


def test_deleting_says_nothing_unless_something_went() -> None:
    changes: list[int] = []
    queue = PromptQueue(lambda: changes.append(1))
    queue.put(_prompt(1, "a"))
    queue.delete(["unknown"])
    assert len(changes) == 1
    queue.delete(["a"])
    assert len(changes) == 2
    assert queue.remaining() == 0


def test_the_newest_of_the_history() -> None:
    queue = PromptQueue(lambda: None)
    for name in "abc":
        queue.put(_prompt(1, name))
        prompt = queue.take()
        assert prompt is not None
        queue.done(prompt, {})
    assert list(queue.history(newest=2)) == ["b", "c"]
    queue.forget(["b", "unknown"])
    assert list(queue.history()) == ["a", "c"]
    queue.forget(None)
    assert queue.history() == {}
