"""Check what the pages say against the program: links lead somewhere, commands and options exist.

Prints each problem as `file:line: problem`; exits 1 if there is any.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from machine_lifecycle.cli.group import cli
from machine_lifecycle.model.settings import setting_info

ROOT = Path(__file__).resolve().parent.parent
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")
GENERATED = ROOT / "docs" / "reference"
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|mailto:)(?P<target>[^)\s]+)\)")
COMMAND = re.compile(r"(?:machine-lifecycle|python3? -m machine_lifecycle)(?= |$)")
ASSIGNMENT = re.compile(r"(?:^|[\s`])(?P<name>[A-Z][A-Z0-9]*_[A-Z0-9_]+)=")
# Variables of others that the pages may set.
FOREIGN = {
    *("COMFYUI_START", "COMFYUI_URL", "NVIDIA_VISIBLE_DEVICES", "NO_COLOR"),
    *("PIP_CONSTRAINT", "PIP_INDEX_URL", "UV_EXCLUDE_NEWER", "UV_FIND_LINKS"),
    *("COMFYUI_INSTANCES_PER_GPU", "COMFYUI_MODELS_PATH"),  # of the service mapping
    "WORKER_FEATURES",  # a word that jobs may require
    *("HF_TOKEN", "CIVITAI_TOKEN"),  # of those who keep models
}


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """Every anchor of a page."""
    text = path.read_text(encoding="utf-8")
    return {slug(found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def link_problems(path: Path, line: str) -> Iterator[str]:
    """Links of one line that lead nowhere."""
    for found in LINK.finditer(line):
        name, _, anchor = found["target"].partition("#")
        target = (path.parent / name).resolve() if name else path
        if not target.exists():
            yield f"no such file: {found['target']}"
        elif anchor and target.suffix == ".md" and anchor not in anchors(target):
            yield f"no such heading: {found['target']}"


def snippets(line: str, *, fenced: bool) -> list[str]:
    """The pieces of a line that are code."""
    return [line] if fenced else re.findall(r"`([^`]+)`", line)


def command_problems(code: str) -> Iterator[str]:
    """Commands of ours in a piece of code, with a name or an option that does not exist."""
    for found in COMMAND.finditer(code):
        if re.search(r"[\w/.-]$", code[: found.start()]):
            continue  # a path or a longer name that ends like our command
        rest = re.split(r"\s(?:[|;#]|&&)|\s{2,}|[>)`]", code[found.end() :])[0]
        try:
            words = shlex.split(rest)
        except ValueError:
            words = rest.split()
        yield from word_problems(words)


def word_problems(words: list[str]) -> Iterator[str]:
    """What is wrong with the words after our program's name."""
    command: click.Command = cli
    context = click.Context(cli, info_name="machine-lifecycle")
    for word in words:
        if word == "…":
            return
        if word.startswith("-") and word != "-":
            known = [name for one in command.get_params(context) for name in one.opts]
            known += [name for one in command.get_params(context) for name in one.secondary_opts]
            if word.partition("=")[0] not in known:
                yield f"{context.command_path} has no option {word}"
        elif isinstance(command, click.Group):
            if word.isupper():
                return
            child = command.get_command(context, word)
            if child is None:
                yield f"{context.command_path} has no command {word}"
                return
            command, context = child, click.Context(child, info_name=word, parent=context)


def setting_problems(code: str) -> Iterator[str]:
    """Variables that are set though nothing reads them."""
    known = FOREIGN | {name for info in setting_info() for name in info.env}
    for found in ASSIGNMENT.finditer(code):
        if found["name"] not in known:
            yield f"no such setting: {found['name']}"


def problems(path: Path) -> Iterator[str]:
    """Everything wrong with one page."""
    fenced = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
            continue
        found = [] if fenced else [*link_problems(path, line)]
        if not path.is_relative_to(GENERATED):
            for code in snippets(line, fenced=fenced):
                found += [*command_problems(code), *setting_problems(code)]
        yield from (f"{path.relative_to(ROOT)}:{number}: {problem}" for problem in found)


def main() -> int:
    """Check every page."""
    pages = [*(ROOT / name for name in PAGES), *sorted((ROOT / "docs").rglob("*.md"))]
    found = [problem for page in pages for problem in problems(page)]
    for problem in found:
        print(problem)
    if not found:
        print(f"{len(pages)} pages: every link, command, option and setting exists")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
