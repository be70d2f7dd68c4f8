"""Simulated GPUs."""

from __future__ import annotations

from machine_lifecycle.model.hardware import Gpu
from machine_lifecycle.model.settings import Settings

__all__ = ["DEFAULT_NUMBER", "simulated_gpus"]

DEFAULT_NUMBER = 2
"""Simulated GPUs where nobody says how many: enough to see that there are several."""

_MIB_PER_GIB = 1024


def simulated_gpus(settings: Settings) -> tuple[Gpu, ...]:
    """As many as ``MOCK_GPU_NUM`` says, else two, of the model and memory in the settings."""
    number = DEFAULT_NUMBER if settings.mock_gpus is None else settings.mock_gpus
    return tuple(
        Gpu(
            index=index,
            name=settings.mock_gpu_model,
            memory_mib=settings.mock_gpu_memory_gb * _MIB_PER_GIB,
            uuid=f"MOCK-{index}",
            visible=str(index),
        )
        for index in range(number)
    )
