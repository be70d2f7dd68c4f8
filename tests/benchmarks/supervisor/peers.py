"""The supervisors that are compared, each started as its manual says, with a service per child."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

HERE = Path(__file__).parent


@attrs.frozen(kw_only=True)
class Task:
    """What a peer has to run.

    Attributes:
        folder: For its files; empty at first, the same when it is started anew.
        child: The program.
        mode: The program's first argument.
        count: How many.
    """

    folder: Path
    child: str
    mode: str
    count: int

    @property
    def names(self) -> list[str]:
        """One for each child."""
        return [f"p{number}" for number in range(self.count)]


Stop = Callable[[subprocess.Popen[bytes], Task], None]


@attrs.frozen(kw_only=True)
class Peer:
    """One supervisor.

    Attributes:
        program: What must be on PATH.
        prepare: Writes its configuration; its command line.
        stop: Asks it to end all children; returns at once where it can.
        env: Variables of its own.
    """

    name: str
    program: str
    prepare: Callable[[Task], list[str]]
    stop: Stop
    env: Callable[[Task], Mapping[str, str]] = lambda _: {}

    def start(self, task: Task) -> subprocess.Popen[bytes]:
        """Start it; children may not run yet."""
        command = self.prepare(task)
        with (task.folder / "output").open("ab") as output:
            return subprocess.Popen(
                command,
                env={**os.environ, **self.env(task)},  # noqa: TID251 - children need PATH
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=task.folder,
            )


def _terminate(process: subprocess.Popen[bytes], _: Task) -> None:
    process.terminate()


def _python(program: str) -> Callable[[Task], list[str]]:
    def prepare(task: Task) -> list[str]:
        words = [str(task.folder), task.child, task.mode, str(task.count)]
        return [sys.executable, str(HERE / program), *words]

    return prepare


def _pm2(task: Task) -> list[str]:
    apps = [
        {"name": name, "script": task.child, "args": [task.mode, name], "interpreter": "none"}
        for name in task.names
    ]
    config = task.folder / "all.config.js"
    config.write_text(f"module.exports = {json.dumps({'apps': apps})}")
    return ["pm2", "start", str(config)]


def _pm2_env(task: Task) -> Mapping[str, str]:
    return {"PM2_HOME": str(task.folder / "pm2"), "HOME": str(task.folder)}


def _pm2_stop(_: subprocess.Popen[bytes], task: Task) -> None:
    subprocess.Popen(
        [shutil.which("pm2") or "pm2", "kill"],
        env={**os.environ, **_pm2_env(task)},  # noqa: TID251 - children need PATH
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _supervisord(task: Task) -> list[str]:
    folder = task.folder
    text = f"[supervisord]\nnodaemon=true\nlogfile={folder}/s.log\npidfile={folder}/s.pid\n"
    text += f"childlogdir={folder}\nuser=root\n" if os.getuid() == 0 else f"childlogdir={folder}\n"
    text += "".join(
        f"[program:{name}]\ncommand={task.child} {task.mode} {name}\n" for name in task.names
    )
    (folder / "s.conf").write_text(text)
    return ["supervisord", "-c", str(folder / "s.conf")]


def _circus(task: Task) -> list[str]:
    text = "[circus]\n" + "".join(
        f"{kind}=ipc://{task.folder}/{kind}\n" for kind in ("endpoint", "pubsub_endpoint")
    )
    for name in task.names:
        text += f"[watcher:{name}]\ncmd={task.child} {task.mode} {name}\n"
        text += f"stdout_stream.class=FileStream\nstdout_stream.filename={task.folder}/{name}.log\n"
    (task.folder / "c.ini").write_text(text)
    return ["circusd", str(task.folder / "c.ini")]


def _service_folders(task: Task) -> Path:
    services = task.folder / "services"
    for name in task.names:
        run = services / name / "run"
        run.parent.mkdir(parents=True, exist_ok=True)
        if not run.exists():
            run.write_text(f"#!{task.child} {task.mode}\n")
            run.chmod(0o755)
    os.utime(services, (1e9, 1e9))  # runsvdir waits a second for a folder that was just changed
    return services


def _runit(task: Task) -> list[str]:
    return ["runsvdir", str(_service_folders(task))]


def _runit_stop(process: subprocess.Popen[bytes], _: Task) -> None:
    process.send_signal(1)  # SIGHUP: end the services too


def _s6(task: Task) -> list[str]:
    return ["s6-svscan", "-c", "500", str(_service_folders(task))]


def _s6_stop(_: subprocess.Popen[bytes], task: Task) -> None:
    program = shutil.which("s6-svscanctl") or "s6-svscanctl"
    subprocess.run([program, "-t", str(task.folder / "services")], check=True)


ALL = (
    Peer(name="bare loop", program="true", prepare=_python("bare.py"), stop=_terminate),
    Peer(name="ours", program="true", prepare=_python("ours.py"), stop=_terminate),
    Peer(name="pm2", program="pm2", prepare=_pm2, stop=_pm2_stop, env=_pm2_env),
    Peer(name="supervisord", program="supervisord", prepare=_supervisord, stop=_terminate),
    Peer(name="circus", program="circusd", prepare=_circus, stop=_terminate),
    Peer(name="runit", program="runsvdir", prepare=_runit, stop=_runit_stop),
    Peer(name="s6", program="s6-svscan", prepare=_s6, stop=_s6_stop),
)


def present() -> list[Peer]:
    """Those that are installed here."""
    return [peer for peer in ALL if shutil.which(peer.program)]


def until(fact: Callable[[], bool], seconds: float) -> bool:
    """Wait for a fact that nobody tells of; whether it came about. Measures nothing: the times are
    those that the children tell.
    """
    deadline = time.monotonic() + seconds
    while not fact():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
