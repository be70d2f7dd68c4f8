"""Pages and program agree."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGES = [
    page
    for page in (
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *sorted((ROOT / "docs").rglob("*.md")),
    )
    if page.parent.name != "reference"  # made from the code
]
PYTHON = re.compile(
    r"^(?P<indent> *)(?:<!-- file: (?P<file>\w+)\.py -->\n *)?"
    r"(?:<!-- given:\n(?P<given>[^`]*?)-->\n *)?"
    r"```python\n(?P<code>.*?)^(?P=indent)```",
    re.DOTALL | re.MULTILINE,
)


def run(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "docs" / script), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_generated_pages_are_up_to_date() -> None:
    done = run("generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_links_commands_and_settings_exist() -> None:
    done = run("check.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.relative_to(ROOT / "docs") for page in (ROOT / "docs").rglob("*/*.md")}
    assert {str(page) for page in pages} - set(re.findall(r"\]\(([^)#]+)\)", index)) == set()


def test_every_page_of_the_health_server_is_told_of() -> None:
    server = (ROOT / "machine_lifecycle" / "health" / "server.py").read_text(encoding="utf-8")
    page = (ROOT / "docs" / "how-to" / "ask-over-http.md").read_text(encoding="utf-8")
    tables = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    served = set(re.findall(r'"(/[a-z0-9/-]*)"', server))
    assert "/pm2/logs" in served
    assert set(re.findall(r"`(/[a-z0-9/-]*)[^`]*`", tables)) == served


def programs() -> Iterator[tuple[str, str]]:
    """Each example as a module of its own: its name, with the line it stands at, and its text.

    A file of the reader's goes by its name, so that others can import it. Before a fragment,
    ``<!-- given: … -->`` holds in Python what the text around it speaks of.
    """
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for found in PYTHON.finditer(text):
            code = textwrap.dedent(found["code"])
            at = text[: found.start("code")].count("\n") + 1
            name = found["file"] or re.sub(r"\W", "_", str(page.relative_to(ROOT))) + f"_{at}"
            try:
                ast.parse(code)
                compile(code, name, "exec", dont_inherit=True)
            except SyntaxError:  # it awaits something
                code = f"async def fragment() -> None:\n{textwrap.indent(code, '    ')}"
            yield name, f"{textwrap.dedent(found['given'] or '')}\n{code}"


def test_examples_are_right_by_their_types(tmp_path: Path) -> None:
    found = dict(programs())
    assert len(found) > 9
    for name, code in found.items():
        (tmp_path / f"{name}.py").write_text(code, encoding="utf-8")
    words = ("--config-file=", "--check-untyped-defs", "--cache-dir", str(ROOT / ".mypy_cache"))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words, *(f"{name}.py" for name in found)],
        cwd=tmp_path,
        env={**os.environ, "MYPYPATH": str(ROOT)},  # noqa: TID251 - a program of its own
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
