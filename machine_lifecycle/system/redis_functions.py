"""A server that does not take the queue's functions."""

from __future__ import annotations

from redis.exceptions import ResponseError

__all__ = ["FunctionsRefused"]


class FunctionsRefused(ResponseError):
    """What it said. Its cause is the refusal itself.

    Attributes:
        library: Whose function stands in the way of one of ours; empty for none.
    """

    def __init__(self, refusal: ResponseError, library: str = "") -> None:
        super().__init__(str(refusal).removeprefix("ERR ").partition(", with args")[0])
        self.__cause__: BaseException | None = refusal
        self.library = library
