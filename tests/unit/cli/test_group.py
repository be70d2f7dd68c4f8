"""Names of commands."""

from __future__ import annotations

import click
import pytest
from click.testing import CliRunner

from machine_lifecycle.cli.group import cli
from machine_lifecycle.errors import ExitCode


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        (["statsu"], "Did you mean 'status'?"),
        (["list"], "Did you mean 'ps'?"),
        (["kill"], "Did you mean 'stop'?"),
        (["qwxz"], "No such command 'qwxz'."),
        (["jobs", "cancle"], "Did you mean 'cancel'?"),
        (["jobs", "rm"], "Did you mean 'cancel'?"),
        (["jobs", "qwxz"], "No such command 'qwxz'."),
    ],
)
def test_a_command_that_is_none_is_told_with_the_one_that_may_be_meant(
    typed: list[str], hint: str
) -> None:
    done = CliRunner().invoke(cli, typed)
    assert done.exit_code == ExitCode.CONFIGURATION
    assert hint in done.output
    assert ("mean" in done.output) is ("mean" in hint)


def test_the_help_shows_every_command_once_in_a_section() -> None:
    lines = CliRunner().invoke(cli, ["--help"]).output.splitlines()
    shown = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha()]
    commands = cli.list_commands(click.Context(cli))
    assert [name for name in shown if name in commands] == commands
    assert "Look after the running machine:" in lines
