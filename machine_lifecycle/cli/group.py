"""The commands as one group. Each is imported when it is called."""

from __future__ import annotations

import importlib
import itertools
import sys
from collections.abc import Mapping
from typing import Any, ClassVar, Never

import click

from machine_lifecycle.cli.did_you_mean import GroupThatHints
from machine_lifecycle.cli.errors import UsageRefused
from machine_lifecycle.errors import ExitCode, LifecycleError
from machine_lifecycle.system.streams import ReaderGone, open_streams

__all__ = ["cli", "run"]

_NAME = "machine-lifecycle"

_SECTIONS: dict[str, dict[str, tuple[str, str, str]]] = {
    # name: (module, attribute, one line of help), by the section of the help that shows it
    "Boot a machine": {
        "boot": ("boot", "boot", "Boot this machine and run until told to stop (the default)."),
        "demo": ("demo", "demo", "Boot a simulated machine, do one job, save the picture, stop."),
        "plan": ("plan", "plan", "Show what a boot would install and start; changes nothing."),
        "doctor": ("doctor", "doctor", "Look at everything that a boot needs; changes nothing."),
        "settings": ("settings", "settings", "Show the effective settings and their origins."),
        "services": ("services", "services", "List the services that can be run."),
    },
    "Look after the running machine": {
        "status": ("status", "status", "Show how the running machine does."),
        "ps": ("processes", "ps", "List its processes."),
        "logs": ("logs", "logs", "Show or follow the logs of processes."),
        "start": ("processes", "start", "Start processes that are stopped."),
        "restart": ("processes", "restart", "Restart processes."),
        "stop": ("stop", "stop", "Stop the machine, or some of its processes."),
        "signal": ("processes", "signal_process", "Send a signal to one process."),
        "reload": ("reload", "reload", "Read the settings anew; restart only what they change."),
        "drain": ("drain", "drain", "Let running jobs end and take no further ones."),
        "undrain": ("drain", "undrain", "Take jobs again after a drain."),
    },
    "Jobs": {
        "submit": ("submit", "submit", "Put a job into the queue; watch it, save what it makes."),
        "jobs": ("jobs", "jobs", "List, show, cancel and retry jobs."),
    },
    "Install": {
        "install": ("install", "install", "Install what a boot would, and stop: for images."),
        "lock": ("lock", "lock", "Turn the list of node packs into commits, versions, hashes."),
        "verify": ("verify", "verify", "Hold what is installed against the lock."),
        "snapshot": ("snapshot", "snapshot", "Write what is installed as a list and its lock."),
        "models": ("models", "models", "List the models and how far each is; pin their digests."),
    },
    "Live beside other supervisors": {
        "export": ("export", "export", "Write the plan for systemd, PM2, supervisord, Compose …"),
        "health-server": ("health_server", "health_server", "Serve the pages of what they run."),
    },
    "When something is wrong": {
        "explain": ("explain", "explain", "Explain an error code and its remedies."),
        "diagnose": ("diagnose", "diagnose", "Gather what a bug report needs into one file."),
        "diagram": ("diagram", "diagram", "Print the state diagram (Mermaid)."),
    },
}
_COMMANDS = {name: where for section in _SECTIONS.values() for name, where in section.items()}
_ELSEWHERE = {  # what other programs call it
    "list": "ps",
    "ls": "ps",
    "top": "ps",
    "monit": "status",
    "describe": "status",
    "info": "status",
    "kill": "stop",
    "down": "stop",
    "up": "boot",
    "run": "boot",
    "log": "logs",
    "tail": "logs",
    "check": "doctor",
    "config": "settings",
}


class LazyGroup(GroupThatHints):
    """A group whose commands are imported when they are asked for."""

    elsewhere: ClassVar[Mapping[str, str]] = _ELSEWHERE

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """Every command, in the order a newcomer meets them."""
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        cmd_name: str,
    ) -> click.Command | None:
        """Import one command."""
        if cmd_name not in _COMMANDS:
            return None
        module, attribute, _ = _COMMANDS[cmd_name]
        loaded = importlib.import_module(f"machine_lifecycle.cli.{module}")
        command = getattr(loaded, attribute)
        if not isinstance(command, click.Command):  # pragma: no cover - a mistake of ours
            raise TypeError(f"{module}.{attribute} is no command")
        return command

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command. Ctrl+C ends with the status that shells tell of it, and no word more."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.exit(ExitCode.FORCED_BY_SIGINT)

    def format_commands(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's
        formatter: click.HelpFormatter,
    ) -> None:
        """List the commands by what they are for, without importing them."""
        widest = max(map(len, _COMMANDS))
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                rows = [(name.ljust(widest), line) for name, (_, _, line) in commands.items()]
                formatter.write_dl(rows)


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option(
    "--env-file",
    type=click.Path(dir_okay=False),
    help="Read settings from this file too; default: .env if it is there.",
)
@click.option(
    "--init",
    "as_init",
    is_flag=True,
    help="Be safe as the first process of a container: reap, forward signals, respawn.",
)
@click.version_option(None, "-V", "--version", package_name=_NAME, prog_name=_NAME)
@click.pass_context
def cli(ctx: click.Context, env_file: str | None, as_init: bool) -> None:  # noqa: FBT001 - click
    """Turn this machine into one that takes jobs.

    Without a command: boot what the environment says and run until told to stop. The default is a
    simulated GPU service, so it works on a laptop:

    \b
      machine-lifecycle demo                      see it work
      WORKERS=comfyui:1 machine-lifecycle plan    see what would run
      machine-lifecycle                           boot, and stay

    Listings take --json; errors are JSON with it, too.
    """  # noqa: D301 - click reads the escape
    ctx.obj = {"env_file": env_file}
    if ctx.invoked_subcommand is not None:
        return
    if as_init:
        from machine_lifecycle.cli.init import run_as_init  # noqa: PLC0415 - only when asked for

        sys.exit(run_as_init(env_file))
    command = LazyGroup.get_command(ctx.command, ctx, "boot")  # type: ignore[arg-type]  # is one
    if command is not None:
        ctx.invoke(command)


def run() -> None:
    """Run the command line; errors of ours end with their own exit status."""
    open_streams()
    try:
        sys.exit(cli(prog_name=_NAME, standalone_mode=False))
    except ReaderGone:
        sys.exit(ExitCode.READER_GONE)
    except click.Abort:  # Ctrl+C, so early that no command runs yet
        sys.exit(ExitCode.FORCED_BY_SIGINT)
    except click.ClickException as refusal:
        if not _json_is_asked_for():
            refusal.show()
            sys.exit(refusal.exit_code)
        context = getattr(refusal, "ctx", None)
        path = context.command_path if context else _NAME
        _end(UsageRefused(command=path, reason=refusal.format_message()))
    except LifecycleError as error:
        _end(error)


def _end(error: LifecycleError) -> Never:
    from machine_lifecycle.cli.output import show_error  # noqa: PLC0415 - only on errors

    show_error(error, as_json=_json_is_asked_for())
    sys.exit(error.exit_code)


def _json_is_asked_for() -> bool:
    """Whether ``--json`` is among the words, even where they are none that the command takes."""
    return "--json" in itertools.takewhile(lambda word: word != "--", sys.argv[1:])
