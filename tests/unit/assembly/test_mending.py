"""What a fault of a GPU calls for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.assembly.errors import GpuUnusable
from machine_lifecycle.assembly.mending import Fault, Verdict, judge
from machine_lifecycle.model.gpu_signs import Scope, Sign

OF_PROCESS = Sign("unspecified launch failure", Scope.PROCESS, "cudaErrorLaunchFailure (719)")
OF_GPU = Sign("GPU is lost", Scope.GPU, "NVML_ERROR_GPU_IS_LOST (15)")
FAULTS = st.builds(Fault, at=st.floats(0, 1000), job=st.sampled_from(["", "a", "b"]))


@given(st.lists(FAULTS), FAULTS)
def test_what_a_restart_cannot_mend_is_taken_out(earlier: list[Fault], fault: Fault) -> None:
    assert judge(OF_GPU, tuple(earlier), fault) is Verdict.TAKE_OUT


@given(FAULTS)
def test_the_first_fault_is_mended_by_a_restart(fault: Fault) -> None:
    assert judge(OF_PROCESS, (), fault) is Verdict.RESTART


@given(st.lists(st.floats(0, 1000)))
def test_one_job_alone_takes_no_gpu_out(times: list[float]) -> None:
    earlier = tuple(Fault(at, "a") for at in times)
    assert judge(OF_PROCESS, earlier, Fault(1000, "a")) is Verdict.RESTART


def test_two_jobs_do() -> None:
    assert judge(OF_PROCESS, (Fault(1, "a"),), Fault(2, "b")) is Verdict.TAKE_OUT


def test_two_without_a_job_do() -> None:
    assert judge(OF_PROCESS, (Fault(1),), Fault(2)) is Verdict.TAKE_OUT


def test_what_is_long_past_does_not_count() -> None:
    assert judge(OF_PROCESS, (Fault(1, "a"),), Fault(700, "b")) is Verdict.RESTART


def test_the_words_name_gpu_cause_and_remedy() -> None:
    facts = {"process": "comfyui-gpu3", "index": 3, "name": "H100", "uuid": "GPU-x"}
    of_gpu = GpuUnusable(**facts, sign="GPU is lost", source="s", lasting=True)  # type: ignore[arg-type]
    for words in ("GPU 3", "H100", "GPU-x", "GPU is lost", "nvidia-smi --gpu-reset -i GPU-x"):
        assert words in of_gpu.summary
    assert of_gpu.remedies[-1].command == "machine-lifecycle restart comfyui-gpu3"
    again = GpuUnusable(**facts, sign="an assert", source="s", lasting=False)  # type: ignore[arg-type]
    assert "again after a restart" in again.summary
    assert again.remedies[0].command == "machine-lifecycle logs comfyui-gpu3"
