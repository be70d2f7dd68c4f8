"""A ``Procfile``, for foreman, honcho, overmind and their like. Source: https://ddollar.github.io/foreman/."""

from __future__ import annotations

from machine_lifecycle.plan.exports.programs import ExportFile, Program, shell_line

__all__ = ["procfile"]


def procfile(programs: tuple[Program, ...]) -> tuple[ExportFile, ...]:
    """One line per process. Secrets are inherited: such runners read ``.env``."""
    lines = [f"{program.name}: {shell_line(program)}" for program in programs]
    return (ExportFile(name="Procfile", text="\n".join(lines) + "\n"),)
