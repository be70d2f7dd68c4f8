"""``explain``: every code has words."""

from __future__ import annotations

import json
import pkgutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import machine_lifecycle
from machine_lifecycle.cli.explain import ERROR_MODULES, all_errors, explain


def test_no_error_class_lives_outside_the_listed_modules() -> None:
    """Else ``explain`` would not know it. Read as text: importing all would load all."""
    root = Path(machine_lifecycle.__file__).parent
    outside = [
        found.name
        for found in pkgutil.walk_packages([str(root)], "machine_lifecycle.")
        if not found.ispkg
        and found.name not in ERROR_MODULES
        and "\n    code: ClassVar[str] = "
        in (root.parent / (found.name.replace(".", "/") + ".py")).read_text(encoding="utf-8")
    ]
    assert outside == [], "add them to ERROR_MODULES in cli/explain.py"


@pytest.mark.parametrize("code", all_errors())
def test_every_code_is_explained(code: str) -> None:
    result = CliRunner().invoke(explain, [code, "--json"])
    assert result.exit_code == 0, result.output
    value = json.loads(result.output)
    assert value["title"].endswith(".")
    assert value["code"] == code
    assert value["example"], "its facts could not be made up"


def test_for_people() -> None:
    result = CliRunner().invoke(explain, ["health-port-taken"])
    assert "tried again:  yes" in result.output
    assert "lsof -nP -iTCP:8188" in result.output
    assert "health-port-taken" in CliRunner().invoke(explain, []).output


def test_an_unknown_code_gets_its_neighbours() -> None:
    result = CliRunner().invoke(explain, ["health-prt-taken"])
    assert result.exit_code == 2
    assert "health-port-taken" in result.output
