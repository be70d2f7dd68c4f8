"""Start a program: a session of its own, output straight to its file, an environment of its own.

``preexec_fn`` is never used: it makes Python fork instead of vfork, which costs tens of
milliseconds under a big parent and isn't safe beside threads.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from machine_lifecycle.model.limits import Limits
from machine_lifecycle.model.processes import Command, ProcessSpec
from machine_lifecycle.plan.errors import PortTaken
from machine_lifecycle.supervisor.env_files import fingerprint, read_env_files
from machine_lifecycle.supervisor.errors import ProgramNotFound, SecretMissing
from machine_lifecycle.supervisor.limits import check_limits, popen_limits, prefix
from machine_lifecycle.supervisor.tree import TOKEN_VARIABLE

__all__ = ["check_port", "check_start", "digest", "environment", "log_path", "run", "spawn"]

_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_OF_OUR_OWN_MANAGER = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC")
"""What whoever started us said to us alone."""

Secrets = Callable[[str], str | None]


def log_path(spec: ProcessSpec, logs: Path) -> Path:
    """The file that takes the process's output."""
    return spec.log or logs / f"{spec.name}.log"


def environment(
    name: str, command: Command, base: Mapping[str, str], secrets: Secrets, token: str
) -> dict[str, str]:
    """The whole environment of a process.

    Raises:
        SecretMissing: A secret that it names is not set.
        EnvFilesUnusable: A file that it names can't be read.
    """
    files = read_env_files(name, command) if command.env_files else {}
    result = {**base, **files, **command.env}
    for variable in command.secrets:
        value = secrets(variable)
        if value is None:
            raise SecretMissing(process=name, variable=variable)
        result[variable] = value
    result[TOKEN_VARIABLE] = token
    for variable in _OF_OUR_OWN_MANAGER:
        result.pop(variable, None)
    return result


def digest(spec: ProcessSpec, secrets: Secrets) -> str:
    """Changes when the process would be started differently, by a changed secret or file too.

    What is done about it later, when it ends or grows, is no part of that: see
    ``ProcessSpec.started_as``.
    """
    secret = (secrets(name) or "" for name in spec.command.secrets)
    text = "\0".join([spec.started_as, fingerprint(spec.command), *secret])
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def check_port(spec: ProcessSpec) -> None:
    """Raise if somebody listens on the process's port.

    Raises:
        PortTaken: With the owner, where it may be seen.
    """
    if not spec.port:
        return
    family = socket.AF_INET6 if ":" in spec.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As servers do it: connections that linger from an earlier run don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((spec.host, spec.port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return  # a name or an address of elsewhere; the program itself will tell
            raise PortTaken(
                wanted_by=spec.name,
                host=spec.host,
                port=spec.port,
                owner=_owner(spec.port),
                variable=spec.port_variable,
            ) from error


def _owner(port: int) -> str:
    import psutil  # noqa: PLC0415 - heavy, and needed only for this error

    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr[1:2] == (port,):
                return (
                    f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
                    if connection.pid
                    else "another user's process"
                )
    return ""


def check_start(spec: ProcessSpec, base: Mapping[str, str], secrets: Secrets) -> None:
    """Raise if the process could not be started, without starting it. Its port is not looked at.

    Raises:
        SecretMissing: A secret that it names is not set.
        EnvFilesUnusable: A file that it names can't be read.
        LimitsUnusable: It can't have its limits here.
        ProgramNotFound: Its program or working directory can't be used.
    """
    command = spec.command
    env = environment(spec.name, command, base, secrets, "")
    check_limits(spec.name, command.limits)
    if command.cwd and command.cwd not in spec.directories and not command.cwd.is_dir():
        raise ProgramNotFound(
            process=spec.name, path=str(command.cwd), reason=os.strerror(errno.ENOENT).lower()
        )
    try:
        _find_program(command, env)
    except OSError as error:
        reason = os.strerror(error.errno or errno.ENOENT).lower()
        raise ProgramNotFound(process=spec.name, path=command.argv[0], reason=reason) from error


def _find_program(command: Command, env: Mapping[str, str]) -> None:
    program = (command.cwd or Path.cwd()) / command.argv[0]
    where = env.get("PATH", os.defpath)
    found = program if "/" in command.argv[0] else shutil.which(command.argv[0], path=where)
    if not found or not os.access(found, os.X_OK):
        number = errno.EACCES if found and Path(found).exists() else errno.ENOENT
        raise OSError(number, os.strerror(number), command.argv[0])


def spawn(spec: ProcessSpec, log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start a process with its output appended to *log*.

    Raises:
        ProgramNotFound: Its program or working directory can't be used.
    """
    for folder in spec.directories:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(log, _APPEND, 0o640)
    except FileNotFoundError:
        log.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(log, _APPEND, 0o640)
    try:
        return run(spec.name, spec.command, env, output=handle)
    finally:
        os.close(handle)


def run(
    name: str, command: Command, env: Mapping[str, str], *, output: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a command as leader of a new session, with no input.

    Raises:
        ProgramNotFound: Its program or working directory can't be used.
    """
    # A child inherits the signal mask of the thread that starts it; ours may block some.
    mask = signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        return subprocess.Popen(
            _limited(name, command, env),
            cwd=command.cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            close_fds=True,
            restore_signals=True,  # SIGPIPE, which Python ignores, ends the child again
            **popen_limits(command.limits),
        )
    except OSError as error:
        path = str(error.filename or command.argv[0])
        raise ProgramNotFound(
            process=name, path=path, reason=(error.strerror or str(error)).lower()
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _limited(name: str, command: Command, env: Mapping[str, str]) -> Sequence[str]:
    if command.limits == Limits():
        return command.argv
    check_limits(name, command.limits)
    words = prefix(command.limits)
    if words:  # what stands in front of the program finds it, and we would hear nothing of it
        _find_program(command, env)
    return (*words, *command.argv)
