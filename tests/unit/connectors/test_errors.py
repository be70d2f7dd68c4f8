"""Errors of connectors say what happened and what can be done."""

from __future__ import annotations

import pytest

from machine_lifecycle.connectors import errors
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.jobs import NodeFailure

_FAILURE = NodeFailure(node="4", node_type="KSampler", message="went wrong", kind="ValueError")


@pytest.mark.parametrize(
    ("error", "code", "recoverable", "words"),
    [
        (
            errors.ServiceUnreachable(url="http://h:1", reason="refused"),
            "service-unreachable",
            True,
            "http://h:1",
        ),
        (errors.BadPayload(problem="empty"), "bad-payload", False, "empty"),
        (
            errors.PromptRejected(status=400, message="bad", failures=(_FAILURE,)),
            "prompt-rejected",
            False,
            "node 4 (KSampler): ValueError: went wrong",
        ),
        (
            errors.NodeFailed(failure=_FAILURE, traceback=("line 7",)),
            "node-failed",
            True,
            "went wrong",
        ),
        (
            errors.NodeFailedForGood(failure=_FAILURE),
            "node-failed-for-good",
            False,
            "went wrong",
        ),
        (
            errors.ServiceOutOfMemory(failure=_FAILURE),
            "service-out-of-memory",
            True,
            "out of memory",
        ),
        (
            errors.PromptInterrupted(prompt_id="p", node="4", by_us=True),
            "prompt-interrupted",
            True,
            "as asked",
        ),
        (
            errors.PromptTimeout(prompt_id="p", seconds=60, progress=0.5, at="4"),
            "prompt-timeout",
            True,
            "50% done at node 4",
        ),
        (errors.PromptLost(prompt_id="p"), "prompt-lost", True, "neither"),
        (errors.ServiceHung(prompt_id="p", seconds=300, at="4"), "service-hung", True, "300 s"),
        (errors.GpuFault(failure=_FAILURE, source="s (7)"), "gpu-fault", True, "s (7)"),
        (errors.GpuBroken(failure=_FAILURE, source="s (7)"), "gpu-broken", True, "s (7)"),
        (errors.BadServiceAddress(variable="X_HOST"), "bad-service-address", False, "X_HOST"),
    ],
)
def test_every_error(error: LifecycleError, code: str, words: str, *, recoverable: bool) -> None:
    assert error.code == code
    assert error.recoverable is recoverable
    assert words in error.summary
    assert error.to_wire()["recoverable"] is recoverable
    assert error.remedies or code == "prompt-interrupted"


def test_the_traceback_is_among_the_context() -> None:
    assert "  | line 7" in str(errors.NodeFailed(failure=_FAILURE, traceback=("line 7",)))
