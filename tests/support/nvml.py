"""NVIDIA's library with two cards that do as a test says: those that break can't be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

import pynvml

__all__ = ["CARDS", "ScriptedLibrary", "raising"]

CARDS = ("GPU-0", "GPU-1")


def raising(code: int) -> Callable[..., Any]:
    """Answers with this error of the driver's, whatever is asked."""

    def fail(*_: object) -> Any:
        raise pynvml.NVMLError(code)

    return fail


class ScriptedLibrary:
    """Speaks as ``system.nvml.Library``, with the real one's errors. Handles are the UUIDs."""

    NVMLError: type[Exception] = pynvml.NVMLError
    NVMLError_GpuIsLost: type[Exception] = pynvml.NVMLError_GpuIsLost
    NVMLError_NotFound: type[Exception] = pynvml.NVMLError_NotFound
    NVMLError_Timeout: type[Exception] = pynvml.NVMLError_Timeout
    NVML_DEVICE_MIG_ENABLE: int = pynvml.NVML_DEVICE_MIG_ENABLE
    nvmlEventTypeXidCriticalError: int = pynvml.nvmlEventTypeXidCriticalError  # noqa: N815 - theirs

    def __init__(self, **answers: Callable[..., Any]) -> None:
        """Two cards that are well and idle.

        Args:
            answers: By name of a function, what answers instead.
        """
        self.opened = 0
        asked = self._asked
        unknown, untold = pynvml.NVML_ERROR_NOT_FOUND, pynvml.NVML_ERROR_NOT_SUPPORTED
        self.nvmlInit: Callable[[], object] = lambda: self._open(1)
        self.nvmlShutdown: Callable[[], object] = asked(lambda: self._open(-1))
        self.nvmlSystemGetDriverVersion: Callable[[], str | bytes] = asked(lambda: "580.95.05")
        self.nvmlDeviceGetCount: Callable[[], int] = asked(lambda: len(CARDS))
        self.nvmlDeviceGetHandleByIndex: Callable[[int], Any] = asked(CARDS.__getitem__)
        self.nvmlDeviceGetHandleByUUID: Callable[[str], Any] = asked(
            lambda uuid: uuid if uuid in CARDS else raising(unknown)()
        )
        self.nvmlDeviceGetName: Callable[[Any], str | bytes] = asked(lambda _: "NVIDIA L4")
        self.nvmlDeviceGetUUID: Callable[[Any], str | bytes] = asked(lambda handle: handle)
        memory = SimpleNamespace(used=1 << 20, total=24 << 30)
        self.nvmlDeviceGetMemoryInfo: Callable[[Any], Any] = asked(lambda _: memory)
        self.nvmlDeviceGetComputeRunningProcesses: Callable[[Any], Iterable[Any]] = asked(
            lambda _: []
        )
        self.nvmlDeviceGetProcessUtilization: Callable[[Any, int], Iterable[Any]] = raising(unknown)
        self.nvmlDeviceGetMigMode: Callable[[Any], Sequence[int]] = raising(untold)
        self.nvmlDeviceGetMaxMigDeviceCount: Callable[[Any], int] = raising(untold)
        self.nvmlDeviceGetMigDeviceHandleByIndex: Callable[[Any, int], Any] = raising(untold)
        self.nvmlDeviceGetGpuInstanceId: Callable[[Any], int] = raising(untold)
        self.nvmlEventSetCreate: Callable[[], Any] = asked(lambda: "events")
        self.nvmlDeviceRegisterEvents: Callable[[Any, int, Any], object] = asked(lambda *_: None)
        self.nvmlEventSetWait_v2: Callable[[Any, int], Any] = raising(pynvml.NVML_ERROR_TIMEOUT)
        self.nvmlEventSetFree: Callable[[Any], object] = asked(lambda _: None)
        for name, answer in answers.items():
            if name not in vars(self):
                raise AttributeError(name)
            setattr(self, name, answer)

    def _open(self, step: int) -> None:
        self.opened += step

    def _asked(self, answer: Callable[..., Any]) -> Callable[..., Any]:
        """Answers only while it is open, as the real one does."""

        def ask(*words: Any) -> Any:
            if not self.opened:
                raise pynvml.NVMLError(pynvml.NVML_ERROR_UNINITIALIZED)
            return answer(*words)

        return ask
