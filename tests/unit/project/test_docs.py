"""Pages and program agree."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = re.compile(r"^( *)```python\n(.*?)^\1```", re.DOTALL | re.MULTILINE)


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


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_imported_in_examples_exist(page: Path) -> None:
    for indent, code in PYTHON.findall(page.read_text(encoding="utf-8")):
        text = re.sub(f"^{indent}", "", code, flags=re.MULTILINE)
        try:
            tree = ast.parse(text)
        except SyntaxError:  # a fragment with `await` or `...` at the top
            tree = ast.parse("async def fragment():\n" + textwrap.indent(text, "    "))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(
                "machine_lifecycle"
            ):
                module = importlib.import_module(node.module or "")
                missing = [name.name for name in node.names if not hasattr(module, name.name)]
                assert missing == []
