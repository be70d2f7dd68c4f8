"""Names of commands."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from machine_lifecycle.cli.group import cli
from machine_lifecycle.errors import ExitCode


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("statsu", "Did you mean 'status'?"),
        ("list", "Did you mean 'ps'?"),
        ("kill", "Did you mean 'stop'?"),
        ("qwxz", "No such command 'qwxz'."),
    ],
)
def test_a_command_that_is_none_is_told_with_the_one_that_may_be_meant(
    typed: str, hint: str
) -> None:
    done = CliRunner().invoke(cli, [typed])
    assert done.exit_code == ExitCode.CONFIGURATION
    assert hint in done.output
    assert ("mean" in done.output) is ("mean" in hint)
