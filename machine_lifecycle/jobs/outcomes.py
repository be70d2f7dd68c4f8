"""A result on its way from a run into the queue."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

__all__ = ["TOO_LARGE", "UNWRITTEN", "Outcome", "refusal"]

UNWRITTEN = "unwritten"
"""First word of an answer: Redis refuses to write how a run ended, and the job is as it was."""
_REFUSED = "refused"
"""The same, but the job ended as failed, with the refusal as its cause."""
TOO_LARGE = "too-large"
"""First word of the answer to a result at which the server ends the connection; then its bytes, and
how that was told. Nothing is written, and the job is as it was."""


def refusal(answer: str) -> str:
    """Why Redis refuses to write how a run ended; empty if it does not."""
    word, _, reason = answer.partition(" ")
    return reason if word in {UNWRITTEN, _REFUSED} else ""


def _unheard(_answer: str) -> None:
    return None


@attrs.frozen
class Outcome:
    """A result to be written.

    Attributes:
        arguments: As ``ml1_turn`` takes them: id, fence, result, attestation, its key, ms, service.
        answered: Called with ``ok`` or ``lost`` once it is written; or with ``refused``,
            ``unwritten`` or ``too-large`` and the reason, if it never will be.
        outputs: Bytes of small files by their keys in Redis; written before the result is.
    """

    arguments: tuple[str | int, ...]
    answered: Callable[[str], None] = _unheard
    outputs: Mapping[str, bytes] = attrs.field(factory=dict, repr=False)

    @property
    def job_id(self) -> str:
        """Whose result it is."""
        return str(self.arguments[0])

    @property
    def fence(self) -> int:
        """The run it is of."""
        return int(self.arguments[1])

    @property
    def key(self) -> tuple[str, int]:
        """The job, and the run of it."""
        return self.job_id, self.fence

    @property
    def weight(self) -> int:
        """Bytes that are sent for it, about."""
        words = (word for word in self.arguments if isinstance(word, str))
        said = (len(word.encode(errors="replace")) for word in words)
        return sum(said) + sum(map(len, self.outputs.values()))
