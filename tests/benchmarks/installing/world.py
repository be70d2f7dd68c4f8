"""What there is to install: repositories of node packs, and wheels of what they require.

Made on the spot, the same for the same seed: no network, and nobody's code.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import random
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import attrs

__all__ = ["SIZES", "SMALL", "Kind", "World", "make_world", "wheel"]

_GIT = {
    "PATH": os.defpath + ":/usr/local/bin",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
}


@attrs.frozen
class Kind:
    """Repositories of one size.

    Attributes:
        name: Beginning of their names.
        count: How many.
        commits: Fewest and most.
        history: Fewest and most bytes of all commits together, which do not compress.
        tip: Share of that in the newest commit.
    """

    name: str
    count: int
    commits: tuple[int, int]
    history: tuple[int, int]
    tip: float


SIZES = (
    Kind("light", 50, (20, 300), (50_000, 1_900_000), 0.3),
    Kind("medium", 10, (100, 300), (18_000_000, 22_000_000), 0.1),
    Kind("heavy", 4, (200, 300), (100_000_000, 200_000_000), 0.02),
)
"""As lists in use are: most packs are small, and a few with pictures in their history are not."""
SMALL = (
    Kind("light", 6, (20, 60), (50_000, 200_000), 0.3),
    Kind("medium", 2, (40, 60), (2_000_000, 3_000_000), 0.1),
    Kind("heavy", 1, (60, 80), (20_000_000, 30_000_000), 0.02),
)
_PACKAGES = 40
_WITH_REQUIREMENTS = 54 / 64
"""Share of packs that require something, as in a list in use."""


@attrs.frozen
class World:
    """Where it all is.

    Attributes:
        root: ``git``, ``wheels`` and ``comfyui`` are below.
        packs: Names of the packs, and whether each requires something.
        commits: The newest commit of each.
    """

    root: Path
    packs: dict[str, bool]
    commits: dict[str, str]

    @property
    def git(self) -> Path:
        """Bare repositories, ``NAME.git``."""
        return self.root / "git"

    @property
    def wheels(self) -> Path:
        """Every wheel."""
        return self.root / "wheels"

    def listed(self, address: str, *, pinned: bool = False) -> str:
        """The list of node packs, with repositories below an address."""
        nodes = [
            {"name": name, "url": f"{address}/{name}.git", "requirements": wants}
            | ({"commit": self.commits[name]} if pinned else {})
            for name, wants in self.packs.items()
        ]
        return json.dumps({"custom_nodes": nodes}, indent=1)


def make_world(root: Path, kinds: tuple[Kind, ...] = SIZES, seed: int = 64) -> World:
    """Make it in an empty folder; what is there already is taken as it is."""
    stamp = root / "world.json"
    if stamp.exists():
        told = json.loads(stamp.read_text("utf-8"))
        return World(root, told["packs"], told["commits"])
    chance = random.Random(seed)  # noqa: S311 - sizes and names, no secrets
    world = World(root, {}, {})
    world.git.mkdir(parents=True)
    world.wheels.mkdir()
    names = _make_wheels(world.wheels, chance)
    files = {"main.py": _MAIN, "requirements.txt": b"torch\nrequests\n"}
    _repository(
        world.git / "ComfyUI.git", Kind("", 1, (50, 50), (400_000,) * 2, 0.3), files, chance
    )
    for kind in kinds:
        for number in range(kind.count):
            name = f"{kind.name}-{number:02}"
            wants = chance.random() < _WITH_REQUIREMENTS
            files = {"__init__.py": b"NODE_CLASS_MAPPINGS = {}\n"}
            if wants:
                asked = chance.sample(names, chance.randint(1, 5))
                files["requirements.txt"] = "".join(f"{one}>=1\n" for one in asked).encode()
            world.commits[name] = _repository(world.git / f"{name}.git", kind, files, chance)
            world.packs[name] = wants
    stamp.write_text(json.dumps(attrs.asdict(world) | {"root": ""}), "utf-8")
    return world


_MAIN = b"import sys\nimport requests, torch\nprint('usage: main.py')\n"


def _repository(path: Path, kind: Kind, files: dict[str, bytes], chance: random.Random) -> str:
    """Make a bare repository; its newest commit. Each commit has another blob of noise."""
    commits = chance.randint(*kind.commits)
    total = chance.randint(*kind.history)
    tip = int(total * kind.tip)
    subprocess.run(["git", "init", "--quiet", "--bare", "-b", "main", path], env=_GIT, check=True)  # noqa: S607
    for key in ("uploadpack.allowAnySHA1InWant", "uploadpack.allowFilter"):
        subprocess.run(["git", "config", key, "true"], cwd=path, env=_GIT, check=True)  # noqa: S607
    with subprocess.Popen(
        ["git", "-c", "core.compression=0", "fast-import", "--quiet", "--depth=0"],  # noqa: S607
        cwd=path,
        env=_GIT,
        stdin=subprocess.PIPE,
    ) as importer:
        out = importer.stdin
        if out is None:  # it was asked for
            raise AssertionError
        for number in range(commits):
            size = tip if number == commits - 1 else (total - tip) // max(commits - 1, 1)
            _commit(out, number, files if not number else {}, chance.randbytes(size))
    if importer.returncode:
        raise RuntimeError(path)
    head = subprocess.run(
        ["git", "rev-parse", "main"],  # noqa: S607
        cwd=path,
        env=_GIT,
        check=True,
        capture_output=True,
        text=True,
    )
    return head.stdout.strip()


def _commit(out: object, number: int, files: dict[str, bytes], noise: bytes) -> None:
    def put(data: bytes) -> None:
        out.write(data)  # type: ignore[attr-defined]  # a pipe

    put(f"commit refs/heads/main\ncommitter a <a@b> {1_700_000_000 + number} +0000\n".encode())
    put(b"data 1\nc\n")
    for name, body in {
        **files,
        f"notes/{number % 7}.md": b"x" * number,
        "noise.bin": noise,
    }.items():
        put(f"M 100644 inline {name}\ndata {len(body)}\n".encode() + body + b"\n")


def _make_wheels(folder: Path, chance: random.Random) -> list[str]:
    names = [f"part{number:02}" for number in range(_PACKAGES)]
    for number, name in enumerate(names):
        size = chance.choice((3_000, 20_000, 120_000, 600_000)) if number % 10 else 3_000_000
        needs = chance.sample(names[:number], min(number, chance.randint(0, 2)))
        for version in ("1.0", "1.1"):
            wheel(folder, name, version, [f"{one}>=1" for one in needs], chance.randbytes(size))
    for name in ("torch", "torchvision", "torchaudio", "requests", "pip"):
        wheel(folder, name, "2.0", [], b"")
    return names


def wheel(
    folder: Path, name: str, version: str, needs: Sequence[str] = (), noise: bytes = b""
) -> None:
    """Make a wheel of twenty modules, and the file of its metadata beside it."""
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    facts = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    facts += "".join(f"Requires-Dist: {one}\n" for one in needs)
    files = {f"{module}/__init__.py": f"__version__ = {version!r}\n".encode()}
    files |= {
        f"{module}/m{number}.py": b"def f(x):\n    return x + 1\n" * 40 for number in range(20)
    }
    files |= {f"{module}/noise.bin": noise} if noise else {}
    files[f"{info}/METADATA"] = facts.encode()
    files[f"{info}/WHEEL"] = (
        b"Wheel-Version: 1.0\nGenerator: bed\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    record = "".join(f"{path},sha256={_digest(body)},{len(body)}\n" for path, body in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n".encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, body in files.items():
            archive.writestr(zipfile.ZipInfo(path), body, compress_type=zipfile.ZIP_DEFLATED)
    target = folder / f"{module}-{version}-py3-none-any.whl"
    target.write_bytes(packed.getvalue())
    target.with_name(target.name + ".metadata").write_text(facts, "utf-8")


def _digest(body: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(body).digest()).decode().rstrip("=")


if __name__ == "__main__":
    make_world(Path(sys.argv[1]), SMALL if "--small" in sys.argv else SIZES)
