"""Pushed jobs are taken in their order, each once, whatever the connection does."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs
import pytest

from machine_lifecycle.jobs.claims import Claimed
from machine_lifecycle.jobs.pushes import Pushes
from machine_lifecycle.jobs.unrunnable_errors import PayloadUnreadable


@attrs.define
class Taken:
    jobs: list[str] = attrs.field(factory=list)
    stirred: int = 0

    def take(self, claimed: Claimed) -> None:
        self.jobs.append(claimed.id)

    def stir(self) -> None:
        self.stirred += 1

    def pushes(self) -> Pushes:
        return Pushes("mine", take=self.take, stir=self.stir)


def message(number: int, job_id: str = "", process: str = "mine") -> str:
    name = json.dumps(job_id or f"job {number}")
    return f"{number} 1 {process} {name}\n{json.dumps({'payload': '{}'})}"


def again(number: int) -> list[Any]:
    return [f"job {number}", 1, "{}", number]


async def missed(pushes: Pushes) -> bool:
    """Whether something is known to be missed."""
    try:
        async with asyncio.timeout(0):
            await pushes.until_missed(60)
    except TimeoutError:
        return False
    return True


async def test_they_are_taken_in_their_order() -> None:
    taken = Taken()
    pushes = taken.pushes()
    for number in (1, 2, 3):
        pushes.hear(message(number))
    assert taken.jobs == ["job 1", "job 2", "job 3"]
    assert (pushes.heard, await missed(pushes)) == (3, False)


async def test_an_id_may_be_any_text() -> None:
    taken = Taken()
    taken.pushes().hear(message(1, 'a "b"\n c 4'))
    assert taken.jobs == ['a "b"\n c 4']


DEEP = "[" * 100_000


@pytest.mark.parametrize(
    "text",
    [
        "\n",
        "1\n{}",
        'x 1 mine "a"\n{}',
        "1 1 mine a\n{}",
        '1 1 mine "a"\n{',
        pytest.param(f"1 1 mine {DEEP}\n{{}}", id="deep"),
        pytest.param(f'1 1 mine "a"\n{DEEP}', id="deep record"),
        '1 1 mine 7\n{"payload": "{}"}',
        '1 1 mine "a"\n7',
        '1 1 mine "a"\n["payload"]',
        '1 1 mine "a"\nnull',
        '1 1 mine "a"\n{"payload": null}',
        '1 1 mine "a"\n{"payload": {"a": 1}}',
        '1 1 mine "a"\n{"retry_count": 1}',
    ],
)
async def test_what_is_no_job_is_passed_over(text: str) -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.hear(text)
    pushes.hear(message(1))
    assert taken.jobs == ["job 1"]


@pytest.mark.parametrize("record", ["7", "null", "[]", '{"payload": null}', '{"a": 1}', "{", DEEP])
async def test_one_whose_record_is_none_fails_alone(record: str) -> None:
    claimed: list[Claimed] = []
    pushes = Pushes("mine", take=claimed.append, stir=lambda: None)
    pushes.catch_up(2, [["odd", 1, record, 1], [*again(2)[:2], '{"payload": "{}"}', 2]])
    odd, good = claimed
    with pytest.raises(PayloadUnreadable) as error:
        odd.job(default_timeout=1)
    assert error.value.summary == "the payload of job odd is in a record that can't be read"
    assert good.job(default_timeout=1).payload == {}


async def test_what_is_told_twice_is_taken_once() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.hear(message(1))
    pushes.hear(message(1))
    pushes.catch_up(1, [again(1)])
    assert taken.jobs == ["job 1"]


async def test_after_a_gap_all_of_it_comes_with_the_next_beat() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.hear(message(1))
    pushes.hear(message(3))
    assert taken.jobs == ["job 1"]
    assert await missed(pushes)
    pushes.catch_up(3, [again(3), again(2)])
    assert sorted(taken.jobs) == ["job 1", "job 2", "job 3"]
    pushes.hear(message(3))  # which was on its way, too
    pushes.hear(message(4))
    assert taken.jobs[3:] == ["job 4"]


async def test_what_came_while_the_beat_was_on_its_way_is_not_taken_again() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.hear(message(1))  # after the queue had answered that it was not heard of
    pushes.catch_up(2, [again(1), again(2)])
    assert taken.jobs == ["job 1", "job 2"]


async def test_a_break_while_it_waits_may_have_swallowed_something() -> None:
    pushes = Taken().pushes()
    pushes.doubt()
    assert not await missed(pushes), "nothing was waited for"
    pushes.answered(0, 1, "")
    pushes.doubt()
    assert await missed(pushes)
    assert not await missed(pushes), "it is told once"


async def test_after_a_break_it_says_what_it_had_heard_of() -> None:
    pushes = Taken().pushes()
    pushes.hear(message(1))
    pushes.doubt()  # the question for it may have come to nobody
    assert await missed(pushes)


async def test_it_says_so_when_it_is_asked_what_it_has_heard_of() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.hear("?\n")
    assert await missed(pushes)
    assert (taken.jobs, pushes.heard) == ([], 0)


async def test_it_asks_again_once_it_has_heard_of_what_is_on_its_way() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.answered(0, 0, "pushed")
    assert taken.stirred == 0
    pushes.hear(message(1))
    pushes.hear(message(2))
    assert taken.stirred == 1


async def test_it_asks_again_at_once_if_that_has_come_by_the_answer() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.hear(message(1))
    pushes.answered(0, 0, "pushed")
    assert taken.stirred == 1


async def test_the_room_is_what_is_left_of_it() -> None:
    pushes = Taken().pushes()
    pushes.answered(0, 2, "")
    pushes.hear(message(1))
    assert pushes.room == 1
    pushes.answered(0, 3, "")  # the call left before that came
    assert pushes.room == 2


async def test_what_is_for_another_process_of_the_same_id_is_only_counted() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.answered(0, 1, "")
    pushes.hear(message(1, process="other"))
    pushes.hear(message(2))
    assert (taken.jobs, pushes.word) == (["job 2"], "2 mine")


async def test_a_server_that_forgot_the_last_ones_numbers_them_anew() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.catch_up(8, [])
    pushes.doubt()  # another server took its place, which knew of five
    pushes.hear(message(6))
    pushes.hear(message(7))
    pushes.hear(message(7))
    assert (taken.jobs, pushes.heard) == (["job 6", "job 7"], 8)


async def test_what_a_beat_brought_takes_its_room() -> None:
    taken = Taken()
    pushes = taken.pushes()
    pushes.answered(0, 2, "")
    pushes.catch_up(1, [again(1)])
    assert pushes.room == 1
