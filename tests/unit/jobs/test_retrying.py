"""What becomes of a run that failed."""

from __future__ import annotations

import pytest
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from machine_lifecycle.connectors.errors import BadPayload, PromptLost, ServiceOutOfMemory
from machine_lifecycle.jobs.breaker import Breaker
from machine_lifecycle.jobs.errors import JobTimeout
from machine_lifecycle.jobs.retrying import passed_over, passing, refused, verdict
from machine_lifecycle.model.jobs import NodeFailure
from machine_lifecycle.system.redis import refusal_of
from machine_lifecycle.system.redis_functions import FunctionsRefused

LATE = JobTimeout(job_id="a", seconds=5)
FAILURE = NodeFailure(node="1", node_type="KSampler", message="out of memory", kind="OOM")


def test_waits_double_up_to_a_minute() -> None:
    waits = [verdict(LATE, attempt=attempt, base=1.0).wait for attempt in range(10)]
    for attempt, wait in enumerate(waits):
        assert 0.8 * min(2**attempt, 60) <= wait <= 1.2 * min(2**attempt, 60)


def test_used_up_memory_is_given_longer() -> None:
    judged = verdict(ServiceOutOfMemory(failure=FAILURE), attempt=0, base=1.0)
    assert (judged.kind, judged.again, judged.counts) == ("out-of-memory", True, True)
    assert judged.wait >= 4.0


def test_what_is_wrong_itself_is_not_tried_again() -> None:
    judged = verdict(BadPayload(problem="no graph"), attempt=0, base=1.0)
    assert (judged.kind, judged.again) == ("invalid", False)


def test_what_a_service_lost_does_not_count() -> None:
    judged = verdict(PromptLost(prompt_id="p"), attempt=0, base=1.0)
    assert (judged.kind, judged.again, judged.counts) == ("lost", True, False)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (BusyLoadingError("Redis is loading the dataset in memory"), True),
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), True),
        (ReadOnlyError("You can't write against a read only replica."), True),
        (NoPermissionError("this user has no permissions to run the 'set' command"), True),
        (ResponseError("ERR ACL failure in script: no permissions to access a key"), True),
        (MasterDownError("Link with MASTER is down"), True),
        (ClusterDownError("Hash slot not served"), True),
        (ResponseError("ERR Function not found"), True),
        (FunctionsRefused(ResponseError("ERR unknown command 'FUNCTION'")), True),
        (ResponseError("ERR user_function:12: attempt to index a nil value"), False),
        (RedisConnectionError("refused"), True),
    ],
)
def test_what_goes_away_by_itself_is_passed_over(error: Exception, *, passes: bool) -> None:
    assert passing(error) is passes
    if passes:
        with passed_over():
            raise error
    else:
        with pytest.raises(ResponseError), passed_over():
            raise error


@pytest.mark.parametrize("kind", [ResponseError, NoPermissionError, OutOfMemoryError])
def test_a_server_that_takes_no_functions_refuses_more_than_one_job(
    kind: type[ResponseError],
) -> None:
    error = FunctionsRefused(kind("it says so"))
    assert (passing(error), refused(error)) == (True, False)
    assert refusal_of(error) is refusal_of(error.__cause__)


def test_it_is_told_to_whoever_asks_what_was_passed_over_and_that_it_is_over() -> None:
    told: list[Exception | None] = []
    away = RedisConnectionError("refused")
    with passed_over(told.append):
        raise away
    with passed_over(told.append):
        pass
    assert told == [away, None]


def test_a_breaker_opens_after_five_in_a_row_and_rests_longer_each_time() -> None:
    breaker = Breaker("comfyui")
    for _ in range(4):
        assert breaker.failed(LATE) is None
    breaker.succeeded()
    assert [breaker.failed(LATE) for _ in range(4)] == [None] * 4
    assert breaker.failed(BadPayload(problem="no graph")) is None, "that is the job's own fault"
    rests = [breaker.failed(LATE) for _ in range(7)]
    assert [rest and rest.seconds for rest in rests] == [10, 20, 40, 80, 160, 300, 300]
    assert rests[0]
    assert "failed 5 jobs in a row" in rests[0].summary
