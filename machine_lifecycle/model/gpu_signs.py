"""What CUDA, PyTorch and NVIDIA's driver say when a GPU can't be used any more, as data.

Two things decide what helps. Some errors spoil the process alone: its CUDA context is lost, every
further call fails alike, and a new process works. Others are of the GPU: it must be reset, or its
host started anew, and a new process meets them again.

Sources: "CUDA Runtime API, Data types used by CUDA Runtime", which says of each error whether the
process must be ended and started anew; for Xids the resolution that NVIDIA's catalogue names
(https://docs.nvidia.com/deploy/xid-errors/analyzing-xid-catalog.html, RESTART_APP or a reset).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from enum import Enum
from types import MappingProxyType

import attrs

__all__ = ["SIGNS", "XIDS", "Scope", "Sign", "sign_in", "sign_of_xid"]


class Scope(Enum):
    """How far a fault reaches, and so what heals it."""

    PROCESS = "process"
    """Its CUDA context is lost; a new process works."""
    GPU = "gpu"
    """The GPU must be reset, or its host started anew."""


@attrs.frozen
class Sign:
    """One thing that is said of a fault.

    Attributes:
        words: What is said, as CUDA or the driver words it.
        scope: How far it reaches.
        source: Name of the error, or of the Xid.
    """

    words: str
    scope: Scope
    source: str


_P, _G = Scope.PROCESS, Scope.GPU

SIGNS: tuple[Sign, ...] = (
    # Of the GPU first: a text that says both is of the worse.
    Sign("uncorrectable ECC error encountered", _G, "cudaErrorECCUncorrectable (214)"),
    Sign("uncorrectable NVLink error detected", _G, "cudaErrorNvlinkUncorrectable (220)"),
    Sign("no CUDA-capable device is detected", _G, "cudaErrorNoDevice (100)"),
    Sign("No CUDA GPUs are available", _G, "PyTorch, for cudaErrorNoDevice (100)"),
    Sign("GPU has fallen off the bus", _G, "Xid 79"),
    Sign("GPU is lost", _G, "NVML_ERROR_GPU_IS_LOST (15)"),
    Sign("an illegal memory access was encountered", _P, "cudaErrorIllegalAddress (700)"),
    Sign("the launch timed out and was terminated", _P, "cudaErrorLaunchTimeout (702)"),
    Sign("device-side assert triggered", _P, "cudaErrorAssert (710)"),
    Sign("hardware stack error", _P, "cudaErrorHardwareStackError (714)"),
    Sign("an illegal instruction was encountered", _P, "cudaErrorIllegalInstruction (715)"),
    Sign("misaligned address", _P, "cudaErrorMisalignedAddress (716)"),
    Sign("unspecified launch failure", _P, "cudaErrorLaunchFailure (719)"),
    Sign(
        "CUDA-capable device(s) is/are busy or unavailable", _P, "cudaErrorDevicesUnavailable (46)"
    ),
)
"""Texts that mean it wherever they stand in an error's words."""

XIDS: Mapping[int, Sign] = MappingProxyType(
    {
        number: Sign(f"Xid {number}: {words}", scope, f"Xid {number}")
        for number, words, scope in (
            (31, "GPU memory page fault", _P),
            (43, "GPU stopped processing", _P),
            (48, "double bit ECC error", _G),
            (62, "internal micro-controller halt", _G),
            (64, "a faulty memory row could not be remapped", _G),
            (74, "NVLink error", _G),
            (79, "GPU has fallen off the bus", _G),
            (94, "contained memory error", _P),
            (95, "uncontained memory error", _G),
            (119, "no answer from the GPU's system processor", _G),
            (120, "error of the GPU's system processor", _G),
        )
    }
)
"""Xids that stop work. Those that only record something, as 63 (a row was remapped, which needs a
reset some day) and 45 (what follows another Xid), are left out.
"""

_XID = re.compile(r"\bXid \([^)]*\): (\d+),")


def sign_of_xid(number: int) -> Sign | None:
    """What an Xid means for the work; ``None`` if nothing, or if it is not known."""
    return XIDS.get(number)


def sign_in(lines: Iterable[str]) -> Sign | None:
    """The worst sign in a text; ``None`` if there is none. A line of the kernel's log counts too.

    Args:
        lines: An error's words, or the last lines of a log.
    """
    text = "\n".join(lines)
    found = [sign for sign in SIGNS if sign.words in text]
    found += [sign for number in _XID.findall(text) if (sign := sign_of_xid(int(number)))]
    return min(found, key=lambda sign: sign.scope is not Scope.GPU, default=None)
