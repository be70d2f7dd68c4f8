"""What errors say of a GPU."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.model.gpu_signs import SIGNS, XIDS, Scope, Sign, sign_in, sign_of_xid

_INNOCENT = st.text(alphabet="abcdefghij .:,\n", max_size=200)

TORCH = """CUDA error: {words}
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below
might be incorrect. For debugging consider passing CUDA_LAUNCH_BLOCKING=1
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions."""


@pytest.mark.parametrize("sign", SIGNS, ids=lambda sign: sign.source)
def test_pytorch_says_it(sign: Sign) -> None:
    assert sign_in(TORCH.format(words=sign.words).splitlines()) == sign


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 1 GiB",
        "Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.",
        "mat1 and mat2 shapes cannot be multiplied (77x2048 and 768x320)",
        "NVRM: Xid (PCI:0000:03:00): 45, pid=1896, Ch 00000010",
        "NVRM: Xid (PCI:0000:03:00): 63, pid=1896, Row Remapper: New row marked for remapping",
        "",
    ],
)
def test_what_is_no_fault_of_a_gpu(text: str) -> None:
    assert sign_in(text.splitlines()) is None


@given(_INNOCENT, st.sampled_from(SIGNS), _INNOCENT)
def test_it_is_found_wherever_it_stands(before: str, sign: Sign, after: str) -> None:
    assert sign_in([before, f"RuntimeError: {sign.words} {after}"]) == sign


@given(st.lists(_INNOCENT))
def test_words_without_a_sign_have_none(lines: list[str]) -> None:
    assert sign_in(lines) is None


@given(st.permutations(SIGNS))
def test_the_worst_of_several_counts(said: list[Sign]) -> None:
    found = sign_in([sign.words for sign in said])
    assert found is not None
    assert found.scope is Scope.GPU


@pytest.mark.parametrize(
    ("number", "scope"),
    [
        *((number, Scope.PROCESS) for number in (31, 43, 94)),
        *((number, Scope.GPU) for number in (48, 64, 74, 79, 95, 119)),
    ],
)
def test_xids(number: int, scope: Scope) -> None:
    sign = sign_of_xid(number)
    assert sign is not None
    assert sign.scope is scope
    assert sign_in([f"NVRM: Xid (PCI:0000:03:00): {number}, pid=7, name=python"]) == sign


@given(st.integers())
def test_other_numbers_mean_nothing(number: int) -> None:
    assert (sign_of_xid(number) is None) == (number not in XIDS)
