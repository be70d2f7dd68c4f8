"""Packs that can't live together, with the real solver: who goes, why, and who stays.

The six kinds are those that lists of real packs fail by, rebuilt from small packages.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.installers.command import CommandRunner, Journal, Redactor
from machine_lifecycle.installers.compiling import Asking, Fault, Solution, Unsolved, UvSolver, read
from machine_lifecycle.installers.requirements import Why, read_requirements
from machine_lifecycle.installers.solving import Solved, solve
from machine_lifecycle.model.installing import StepContext


def wheel(folder: Path, name: str, version: str, *needs: str, tag: str = "py3-none-any") -> None:
    """An empty wheel."""
    info = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        facts += "".join(f"Requires-Dist: {one}\n" for one in needs)
        archive.writestr(f"{info}/METADATA", facts)
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nGenerator: t\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")


def source(folder: Path, name: str, backend: str) -> None:
    """A source distribution that is built by the code *backend*."""
    with tarfile.open(folder / f"{name}-1.tar.gz", "w:gz") as archive:
        facts = f"Metadata-Version: 1.0\nName: {name}\nVersion: 1\n"
        build = '[build-system]\nrequires = []\nbuild-backend = "b"\nbackend-path = ["."]\n'
        files = {"b.py": backend, "pyproject.toml": build, "PKG-INFO": facts}
        for path, text in files.items():
            entry = tarfile.TarInfo(f"{name}-1/{path}")
            entry.size = len(text.encode())
            archive.addfile(entry, BytesIO(text.encode()))


def pack(name: str, *lines: str) -> Asking:
    """A pack with these lines."""
    return Asking(
        name=name, lines=read_requirements({"requirements.txt": "\n".join(lines)}.get).wanted
    )


BASE = pack("ComfyUI", "torch", "numpy")


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("4.26.1", "4.43.3", "4.49", "4.53"):
        wheel(folder, "transformers", version)
    for name in ("numpy", "small"):
        wheel(folder, name, "1")
    for version in ("2.0", "2.1"):
        wheel(folder, "torch", version)
    wheel(folder, "depthflow", "1", "transformers>=4.53")
    wheel(folder, "florence", "1", "transformers<=4.49")
    wheel(folder, "ort", "1.15.1", tag="cp38-cp38-manylinux_2_17_x86_64")
    wheel(folder, "fairscale", "0.4.0")
    wheel(folder, "fairscale", "0.4.4")
    wheel(folder, "torchscale", "1", "fairscale==0.4.0")
    source(folder, "imagereward", "import a_module_that_nobody_has\n")
    return folder


@pytest.fixture
def solver(tmp_path: Path, wheels: Path) -> UvSolver:
    run = CommandRunner(
        log=tmp_path / "log.txt",
        journal=Journal(tmp_path / "journal.jsonl"),
        redact=Redactor(),
        report=lambda _: None,
    )
    return UvSolver(
        ctx=StepContext(report=lambda _: None, run_command=run),
        env={"PATH": os.defpath, "HOME": str(tmp_path), "UV_CACHE_DIR": str(tmp_path / "cache")},
        folder=tmp_path / "questions",
        protected=("torch==2.0",),
        options=("--no-index", "--find-links", str(wheels)),
    )


async def solved(solver: UvSolver, *packs: Asking) -> Solved:
    found = await solve(BASE, packs, solver)
    assert isinstance(found, Solved), found
    return found


def out(found: Solved) -> list[tuple[str, Fault, tuple[str, ...]]]:
    return [(one.pack, one.fault, one.against) for one in found.quarantined]


async def test_packs_that_agree_take_one_question(solver: UvSolver) -> None:
    found = await solved(solver, pack("a", "small"), pack("b", "transformers<4.50"))
    assert (out(found), found.rounds) == ([], 1)
    lines = {one.name: one for one in found.solution.packages}
    assert {name: one.version for name, one in lines.items()} == {
        "numpy": "1",
        "small": "1",
        "torch": "2.0",
        "transformers": "4.49",
    }
    assert lines["transformers"].wanted_by == ("pack:b",)
    assert lines["small"].line.startswith("small==1 --hash=sha256:")


async def test_two_packs_that_exclude_each_other(solver: UvSolver) -> None:
    packs = pack("a", "transformers>=4.43.3"), pack("b", "transformers==4.26.1"), pack("c", "small")
    found = await solved(solver, *packs)
    assert out(found) == [("b", Fault.CONFLICT, ("a",))]
    assert [one.name for one in found.packs] == ["a", "c"]
    turned = await solved(solver, *reversed(packs))
    assert out(turned) == [("a", Fault.CONFLICT, ("b",))]


async def test_a_conflict_through_a_dependency_names_the_packs(solver: UvSolver) -> None:
    bystander = pack("bystander", "transformers")
    found = await solved(solver, pack("Depth Flow", "depthflow"), pack("fl", "florence"), bystander)
    assert out(found) == [("fl", Fault.CONFLICT, ("Depth Flow",))]
    assert "bystander" in [one.name for one in found.packs]
    assert any("transformers" in line for line in found.quarantined[0].told)


async def test_no_wheel_for_this_python(solver: UvSolver) -> None:
    found = await solved(solver, pack("a", "ort==1.15.1"), pack("b", "small"))
    assert out(found) == [("a", Fault.NO_WHEEL, ())]


async def test_a_pin_of_a_dependency(solver: UvSolver) -> None:
    found = await solved(solver, pack("a", "torchscale"), pack("b", "fairscale>=0.4.4"))
    assert out(found) == [("b", Fault.CONFLICT, ("a",))]


async def test_a_build_that_fails(solver: UvSolver) -> None:
    found = await solved(solver, pack("a", "small"), pack("b", "imagereward"))
    assert out(found) == [("b", Fault.BUILD, ())]


async def test_a_name_that_no_index_has_costs_its_line_alone(solver: UvSolver) -> None:
    found = await solved(solver, pack("a", "small", "scipy-signal>=1"), pack("b", "numpy"))
    assert out(found) == []
    ((name, refused),) = found.refused
    assert (name, refused.why, refused.text) == ("a", Why.UNKNOWN, "scipy-signal>=1")
    assert "small" in [one.name for one in found.solution.packages]


async def test_what_is_protected_stands_against_a_pack(solver: UvSolver) -> None:
    found = await solved(solver, pack("a", "torch>=2.1"), pack("b", "small"))
    assert out(found) == [("a", Fault.CONFLICT, ())]


async def test_all_six_at_once_in_few_questions(solver: UvSolver) -> None:
    packs = [
        pack("depth", "depthflow"),
        pack("old", "transformers==4.26.1"),
        pack("flo", "florence"),
        pack("ort", "ort==1.15.1"),
        pack("scale", "torchscale"),
        pack("fair", "fairscale>=0.4.4"),
        pack("reward", "imagereward"),
        pack("signal", "small", "scipy-signal"),
        *(pack(f"more-{number}", "small", "transformers>=4") for number in range(14)),
    ]
    found = await solved(solver, *packs)
    assert {(name, fault) for name, fault, _ in out(found)} == {
        ("ort", Fault.NO_WHEEL),
        ("reward", Fault.BUILD),
        ("old", Fault.CONFLICT),
        ("flo", Fault.CONFLICT),
        ("fair", Fault.CONFLICT),
    }
    assert found.rounds <= 8


async def test_a_base_that_can_not_be_had_is_told_as_such(solver: UvSolver) -> None:
    found = await solve(pack("ComfyUI", "nowhere-to-be-found"), [pack("a", "small")], solver)
    assert isinstance(found, Unsolved)
    assert (found.fault, found.missing) == (Fault.UNKNOWN, ("nowhere-to-be-found",))


async def test_an_index_that_is_down_is_no_packs_fault(solver: UvSolver) -> None:
    nobody = "http://127.0.0.1:9/simple"  # the port of `discard`, where nobody listens
    lost = attrs.evolve(solver, options=("--default-index", nobody))
    lost.env["UV_HTTP_RETRIES"] = "0"  # type: ignore[index]  # a dict of the fixture's own
    found = await solve(BASE, [pack("a", "small"), pack("b", "numpy")], lost)
    assert isinstance(found, Unsolved)
    assert found.fault is Fault.UNREACHED


def test_an_answer_is_read_with_addresses_and_reasons() -> None:
    text = (
        "foo @ git+https://h/a/b@0f\n    # via machine-lifecycle-pack-x, bar\n"
        "A_b==1.0 \\\n    --hash=sha256:2 \\\n    --hash=sha256:1\n    # via foo\n# The following\n"
    )
    ab, foo = read(text)
    assert (ab.name, ab.version, ab.hashes) == ("a-b", "1.0", ("sha256:1", "sha256:2"))
    assert (foo.url, foo.wanted_by) == ("git+https://h/a/b@0f", ("bar", "pack:x"))


class Rules:
    """A solver by rules: sets of packs that can't be had together; names them, or does not."""

    def __init__(self, cores: Sequence[frozenset[str]], *, names: bool) -> None:
        self.cores = cores
        self.names = names

    async def __call__(self, packs: Sequence[Asking]) -> Solution | Unsolved:
        here = {one.slug for one in packs}
        for core in self.cores:
            if core <= here:
                named = tuple(sorted(core)) if self.names else ()
                return Unsolved(fault=Fault.CONFLICT, packs=named)
        return Solution()


_NAMES = [f"p{number}" for number in range(8)]
_CORES = st.lists(st.frozensets(st.sampled_from(_NAMES), min_size=1, max_size=3), max_size=5)


@given(_CORES, st.permutations(_NAMES), st.booleans())
async def test_every_pack_that_goes_has_to_and_all_others_stay(
    cores: list[frozenset[str]],
    order: list[str],
    names: bool,  # noqa: FBT001 - an example
) -> None:
    rules = Rules(cores, names=names)
    found = await solve(Asking(name="base"), [Asking(name=name) for name in order], rules)
    assert isinstance(found, Solved)
    left = [one.name for one in found.packs]
    assert not any(core <= set(left) for core in cores)
    assert sorted(left + [one.pack for one in found.quarantined]) == _NAMES
    assert left == [name for name in order if name in left]
    for one in found.quarantined:
        assert any(core <= {*left, one.pack} for core in cores), "it went for nothing"
