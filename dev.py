#!/usr/bin/env python3
"""Set up this checkout and work in it: `python3 dev.py demo`, `python3 dev.py test`.

Needs nothing but Python 3.11 or newer: everything else goes into `.venv` beside this file, so the
system's own Python is never touched. The first run installs, later runs start at once.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

MINIMUM = (3, 11)
ROOT = Path(__file__).resolve().parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "dev-stamp.json"

EXAMPLES = """\
examples:
  python3 dev.py demo              boot a simulated GPU machine, give it a job, get a picture
  python3 dev.py test              run all tests
  python3 dev.py test -k queue -x  further arguments go to pytest
  python3 dev.py check             what the build checks besides: style, types, imports, docs
  python3 dev.py docs              write the generated pages again
  python3 dev.py run ps            any command of machine-lifecycle, inside .venv
"""


class SetupFailed(Exception):
    """The environment can't be made; the text says what to do."""


def say(text: str) -> None:
    """Tell the user what happens, apart from the output of the commands."""
    print(f"dev.py: {text}", file=sys.stderr, flush=True)


def clean_environment() -> dict[str, str]:
    """The environment for children: without what would lead them to another Python."""
    names = {"PYTHONHOME", "PYTHONPATH", "VIRTUAL_ENV", "PIP_TARGET", "PIP_PREFIX", "PIP_USER"}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    return {**environment, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


def use_new_enough_python() -> None:
    """Start again under a newer Python if this one is too old and another is on the path."""
    if sys.version_info >= MINIMUM:
        return
    for minor in (13, 12, 11, 14):
        found = shutil.which(f"python3.{minor}")
        if found:
            os.execv(found, [found, __file__, *sys.argv[1:]])
    raise SetupFailed(
        f"Python {MINIMUM[0]}.{MINIMUM[1]} or newer is needed, this is {sys.version.split()[0]} "
        f"({sys.executable}).\n  Debian, Ubuntu:  sudo apt install python3.11 python3.11-venv\n"
        "  anywhere:        uv python install 3.12, then: uv run --no-project -p 3.12 dev.py demo"
    )


def run_quietly(argv: list[str], *, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a set-up step and keep its output for the case that it fails."""
    return subprocess.run(
        argv,
        check=False,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def create_venv() -> None:
    """Make `.venv`, by the standard library, else by virtualenv from the package index."""
    say(f"creating {VENV} with Python {sys.version.split()[0]}")
    shutil.rmtree(VENV, ignore_errors=True)
    made = run_quietly([sys.executable, "-m", "venv", str(VENV)], env=clean_environment())
    if made.returncode == 0:
        return
    say("`python3 -m venv` does not work here; trying virtualenv")
    shutil.rmtree(VENV, ignore_errors=True)
    private = ROOT / "build" / "virtualenv"
    # --target writes to our folder alone, so neither PEP 668 nor a required virtualenv applies.
    env = {**clean_environment(), "PIP_REQUIRE_VIRTUALENV": "0"}
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--upgrade", "--target"]
    made = run_quietly([*pip, str(private), "virtualenv"], env=env)
    if made.returncode == 0:
        env["PYTHONPATH"] = str(private)
        made = run_quietly([sys.executable, "-m", "virtualenv", "-q", str(VENV)], env=env)
    shutil.rmtree(private, ignore_errors=True)
    if made.returncode != 0:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise SetupFailed(
            f"no virtual environment can be made with {sys.executable}:\n"
            f"{indented(made.stdout)}\n"
            f"  Debian, Ubuntu:  sudo apt install python{version}-venv\n"
            "  anywhere:        uv venv --seed .venv   (then run this again)"
        )


def indented(text: str, last: int = 15) -> str:
    """The last lines of an output, set off from our own words."""
    return "\n".join(f"  | {line}" for line in text.rstrip().splitlines()[-last:])


def requirements(group: str) -> list[str]:
    """What has to be installed: the package with the demo's extra, and the tools for `test`."""
    wanted = ["--editable", f"{ROOT}[demo]"]
    if group == "dev":
        import tomllib  # noqa: PLC0415 - older Pythons must get as far as a clear message

        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
        wanted += project["dependency-groups"]["dev"]
    return wanted


def fingerprint(group: str) -> str:
    """What the environment depends on: the project file, the interpreter, the folder."""
    project = (ROOT / "pyproject.toml").read_bytes()
    facts = f"{group} {ROOT} {sys.version_info[:2]}".encode()
    return hashlib.sha256(project + facts).hexdigest()


def read_stamps() -> dict[str, str]:
    """What was installed before; nothing if the environment can't be started any more."""
    if not os.access(PYTHON, os.X_OK):
        return {}
    try:
        stamps = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamps if isinstance(stamps, dict) else {}


def install(group: str) -> None:
    """Let pip install into `.venv`, with a line of progress at each stage."""
    argv = [str(PYTHON), "-m", "pip", "install", "--progress-bar", "off", *requirements(group)]
    say("installing into .venv (a minute or two the first time)")
    began = time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        argv,
        cwd=ROOT,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as pip:
        assert pip.stdout is not None  # noqa: S101 - asked for by stdout=PIPE
        told = began
        for line in pip.stdout:
            lines.append(line)
            words = line.split()
            if line.startswith("Installing collected"):
                say("unpacking the packages")
            elif words[:1] in (["Collecting"], ["Downloading"]) and time.monotonic() - told > 1:
                told = time.monotonic()
                say(f"  {told - began:4.0f} s  {words[0].lower()} {words[1]}")
    if pip.returncode != 0:
        again = " ".join(map(shlex.quote, argv))
        raise SetupFailed(
            f"pip failed:\n{indented(''.join(lines))}\n"
            f"  Is the package index reachable? See it all:  {again}"
        )
    say(f"installed in {time.monotonic() - began:.0f} s")


def prepare(group: str) -> None:
    """Bring `.venv` up to date; costs nothing when it is.

    Two at once are kept apart by a lock on the project file.
    """
    with (ROOT / "pyproject.toml").open("rb") as project:
        fcntl.flock(project, fcntl.LOCK_EX)
        stamps = read_stamps()
        wanted = fingerprint(group)
        if stamps.get(group) == wanted:
            return
        if not os.access(PYTHON, os.X_OK):
            create_venv()
        install(group)
        # The tools come on top of what the demo needs, so they fulfil it too.
        done = {group: wanted}
        if group == "dev":
            done["demo"] = fingerprint("demo")
        STAMP.write_text(json.dumps({**stamps, **done}), encoding="utf-8")


def become(argv: list[str]) -> None:
    """Turn into a program of `.venv`: it gets our terminal, signals and exit status."""
    environment = dict(clean_environment(), VIRTUAL_ENV=str(VENV))
    environment["PATH"] = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    sys.stdout.flush()
    os.execve(argv[0], argv, environment)


# How many that is, tests/conftest.py says: one if only some tests are asked for.
TWO_AT_A_TIME = ["-n", "auto", "--dist", "loadgroup"]
PUBLIC_TYPES = ["--verifytypes", "machine_lifecycle", "--ignoreexternal"]


def check() -> int:
    """Run every check and name those that failed at the end."""
    environment = dict(clean_environment(), PYTHONPATH=str(ROOT))
    # For the public types, basedpyright takes the packages of the Python that is first here.
    environment["PATH"] = os.pathsep.join((str(VENV / "bin"), environment.get("PATH", os.defpath)))
    steps = {
        "style": ["ruff", "check"],
        "format": ["ruff", "format", "--check"],
        "types": ["mypy"],
        # Of every public name: what a user's own type checker sees.
        "public types": ["basedpyright", "--pythonpath", str(PYTHON), *PUBLIC_TYPES],
        "imports": ["lint-imports"],
        "generated docs": ["python", "docs/generate.py", "--check"],
        "commands and links in docs": ["python", "docs/check.py"],
    }
    failed = []
    for name, argv in steps.items():
        say(f"{name}: {' '.join(argv)}")
        program = [str(VENV / "bin" / argv[0]), *argv[1:]]
        began = time.monotonic()
        done = subprocess.run(program, check=False, cwd=ROOT, env=environment)
        say(f"{name}: {'failed' if done.returncode else 'ok'}, {time.monotonic() - began:.1f} s")
        failed += [name] if done.returncode else []
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line: a command, and what is passed on to it."""
    parser = argparse.ArgumentParser(
        prog="dev.py",
        description=(__doc__ or "").partition("\n\n")[2],
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("command", choices=["demo", "test", "check", "docs", "run", "setup"])
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, help="passed on to what the command runs"
    )
    return parser.parse_args(arguments)


def main() -> int:
    """Prepare `.venv` for the command, then run it."""
    asked = parse(sys.argv[1:])
    bin_ = VENV / "bin"
    programs = {
        "demo": [str(bin_ / "machine-lifecycle"), "demo"],
        "run": [str(bin_ / "machine-lifecycle")],
        "test": [str(PYTHON), "-m", "pytest", *TWO_AT_A_TIME],
        "docs": [str(PYTHON), str(ROOT / "docs" / "generate.py")],
    }
    try:
        use_new_enough_python()
        prepare("demo" if asked.command in ("demo", "run") else "dev")
    except SetupFailed as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; run it again, it goes on where it was")
        return 130
    if asked.command == "setup":
        say(f"ready: source {VENV / 'bin' / 'activate'}")
        return 0
    if asked.command == "check":
        return check()
    if asked.command in ("test", "docs"):
        os.chdir(ROOT)
    become([*programs[asked.command], *asked.arguments])
    return 0


if __name__ == "__main__":
    sys.exit(main())
