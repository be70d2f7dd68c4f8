"""Rules for the shape of the code that no linter has."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PACKAGE = ROOT / "machine_lifecycle"
MODULES = sorted(PACKAGE.rglob("*.py"))
PYTHON_FILES = sorted({*MODULES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "docs").rglob("*.py")})

MODULE_LINES = 400
CLASS_LINES = 200
A_MINUTE = 60

# Written in two parts, so that this file does not hold what it looks for.
HOST_PATHS = tuple(
    first + second
    for first, second in [
        ("/wo", "rk/"),
        ("../sha", "red"),
        ("/ro", "ot/"),
        ("/opt/py", "pi"),
        ("/opt/whe", "els"),
        ("/User", "s/"),
    ]
)


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def tracked() -> tuple[Path, ...]:
    """Files under version control; all sources where there is no repository."""
    git = shutil.which("git")
    listed = git and subprocess.run(
        [git, "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if not listed or listed.returncode:
        return tuple(PYTHON_FILES)
    return tuple(
        path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()
    )


def test_modules_are_short() -> None:
    """A longer one has a second subject, which deserves a file of its own."""
    lengths = {relative(path): path.read_text(encoding="utf-8").count("\n") for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > MODULE_LINES} == {}


def test_classes_are_short() -> None:
    lengths = {
        f"{path.relative_to(PACKAGE)}: {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in MODULES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ClassDef)
    }
    long = {name: lines for name, lines in lengths.items() if lines > CLASS_LINES}
    assert long == {}, "find the second subject of each"


def test_modules_say_what_they_are_for() -> None:
    assert [relative(path) for path in MODULES if not ast.get_docstring(tree(path))] == []


def test_modules_say_what_they_offer() -> None:
    silent = [
        relative(path)
        for path in MODULES
        if _defines_anything(tree(path)) and "__all__" not in _assigned(tree(path))
    ]
    assert silent == []


def _assigned(module: ast.Module) -> set[str]:
    return {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
        if isinstance(target, ast.Name)
    }


def _defines_anything(module: ast.Module) -> bool:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef, ast.Assign, ast.ImportFrom)
    return any(isinstance(node, kinds) for node in module.body if not _is_main_import(node))


def _is_main_import(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and [name.name for name in node.names] == ["main"]


def test_names_say_what_things_are() -> None:
    vague = re.compile(r"(?i:manager|helper)|(^|_)utils?(_|$)|Utils?(?=[A-Z]|$)")
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    names = [
        (relative(path), name)
        for path in PYTHON_FILES
        for name in (
            path.stem,
            path.parent.name,
            *(node.name for node in ast.walk(tree(path)) if isinstance(node, kinds)),
        )
    ]
    assert [(where, name) for where, name in names if vague.search(name)] == []


def test_nothing_is_patched() -> None:
    """What needs patching needs a port: a protocol with a second, real implementation."""
    banned = {"mock", "unittest.mock", "pytest_mock", "MonkeyPatch"}
    imports = [
        (relative(path), name)
        for path in PYTHON_FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            getattr(node, "module", None) or "",
            *(alias.name for alias in node.names),
        )
    ]
    assert [(where, name) for where, name in imports if name in banned] == []
    calls = [
        (relative(path), node.lineno)
        for path in PYTHON_FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "monkeypatch.setattr"
    ]
    assert calls == []


def test_no_file_tells_of_the_machine_it_was_written_on() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{relative(path)}: {word}" for word in HOST_PATHS if word in text]
    assert found == []


def test_no_test_sleeps_to_wait() -> None:
    """Waiting is for facts. ``sleep(0)`` gives way to others and is none; a minute or more stands
    for something that never ends. ``# sleep: why`` marks where passing time is what is tested.
    """
    found = [
        f"{relative(path)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "sleep"
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in ("time", "asyncio")
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and isinstance(node.args[0].value, int | float)
        and 0 < node.args[0].value < A_MINUTE
        and not _is_marked(path, node.lineno)
    ]
    assert found == []


def _is_marked(path: Path, line: int) -> bool:
    """Whether the line says why it sleeps, or the loop that it is in says why it polls."""
    *_, loop, sleep = path.read_text(encoding="utf-8").splitlines()[:line]
    return "# sleep: " in sleep or "# noqa: ASYNC110 - " in loop
