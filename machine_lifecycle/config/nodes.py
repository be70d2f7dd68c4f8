"""``config_nodes.json``: the custom nodes that ComfyUI gets."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from machine_lifecycle.config.document import Cursor, read_document
from machine_lifecycle.config.errors import NodesInvalid, raise_problems
from machine_lifecycle.model.redaction import without_credentials

__all__ = ["NodeEntry", "WrittenNode", "parse_nodes", "written_nodes"]

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_FIELDS = frozenset(
    {
        "branch",
        "commit",
        "custom_script",
        "description",
        "env",
        "install_order",
        "name",
        "recursive",
        "required",
        "requirements",
        "url",
    }
)


@attrs.frozen(kw_only=True)
class NodeEntry:
    """One custom node.

    Attributes:
        name: Its folder under ``custom_nodes``.
        url: Of its git repository.
        requirements: Whether its ``requirements.txt`` is installed, if it has one.
        recursive: Whether its submodules are cloned too.
        branch: Empty: the remote's default.
        commit: Empty: the branch's newest.
        env: Variables for its ``.env`` file, expanded; may hold secrets, so never shown.
        custom_script: Shell script that is run in its folder at the end.
        required: Whether the boot fails without it.
    """

    name: str
    url: str
    requirements: bool = False
    recursive: bool = False
    branch: str = ""
    commit: str = ""
    env: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    custom_script: str = ""
    required: bool = False


def parse_nodes(text: str, environ: Mapping[str, str], source: str) -> tuple[NodeEntry, ...]:
    """Read a list of custom nodes: a list, an object with one, or an object of nodes by name.

    Values of ``env`` may refer to variables; an unset one without a default gives an empty value,
    as a node can do without most of them.

    Raises:
        Problems: Everything wrong in it, each with JSON path, line and column.
    """
    document = read_document(text, environ, source, NodesInvalid)
    root = document.root
    nodes: list[NodeEntry] = []
    if not document.errors:
        seen: dict[str, str] = {}
        for name, cursor in _cursors(root):
            node = _node(name, cursor)
            # Folders that differ in case alone are one folder on many file systems.
            if node.name and node.name.lower() in seen:
                cursor.problem(f"`{node.name}` is at {seen[node.name.lower()]} already")
            seen.setdefault(node.name.lower(), cursor.path)
            nodes.append(node)
    raise_problems(source, document.errors)
    return tuple(nodes)


@attrs.frozen
class WrittenNode:
    """One custom node, and the words of the list for it, in which nothing is expanded.

    Attributes:
        entry: What they mean.
        written: As they are written.
    """

    entry: NodeEntry
    written: Mapping[str, Any] = attrs.field(repr=False)


def written_nodes(text: str, environ: Mapping[str, str], source: str) -> tuple[WrittenNode, ...]:
    """Read a list of custom nodes, to be written again with changes.

    Raises:
        Problems: Everything wrong in it, each with JSON path, line and column.
    """
    entries = parse_nodes(text, environ, source)
    cursors = _cursors(read_document(text, environ, source, NodesInvalid).root)
    written = (cursor.value for _, cursor in cursors)
    return tuple(WrittenNode(*both) for both in zip(entries, written, strict=True))


def _cursors(root: Cursor) -> tuple[tuple[str, Cursor], ...]:
    listed = root.get("custom_nodes") or root
    if isinstance(listed.value, list):
        return tuple(("", item) for item in listed.items())
    if isinstance(root.value, dict) and "custom_nodes" in root.value and listed is root:
        return ()
    return listed.members()


def _node(name: str, cursor: Cursor) -> NodeEntry:
    if not isinstance(cursor.value, dict):
        cursor.problem("must be an object", "Write `{…}`")
        return NodeEntry(name="", url="")
    cursor.warn_of_unknown(_FIELDS)
    url = _url(cursor)
    given = cursor.get("name")
    name = given.name() if given else name or re.split("[/:]", url.rstrip("/"))[-1]
    name = name.removesuffix(".git") if not given else name
    if name and (name in {".", ".."} or any(mark in name for mark in "/\\\0")):
        (given or cursor).problem(
            f"`{name}` would lie outside the folder of custom nodes", "Use a plain folder name"
        )
    return NodeEntry(
        name=name,
        url=url,
        requirements=_flag(cursor, "requirements"),
        recursive=_flag(cursor, "recursive"),
        branch=_text(cursor, "branch"),
        commit=_text(cursor, "commit"),
        env=_env(cursor),
        custom_script=_script(cursor),
        required=_flag(cursor, "required"),
    )


def _url(cursor: Cursor) -> str:
    member = cursor.get("url")
    if member is None:
        cursor.problem("has no `url`", 'Write "url": "https://…"')
        return ""
    # Lists in use have whole commands here.
    url = member.name().removeprefix("git clone ").strip()
    if url.startswith("-") or any(character.isspace() for character in url):
        member.problem(f"`{without_credentials(url)}` is no address of a repository")
    return url


def _flag(cursor: Cursor, key: str) -> bool:
    member = cursor.get(key)
    return member.flag() if member else False


def _text(cursor: Cursor, key: str) -> str:
    member = cursor.get(key)
    text = member.text() if member else ""
    if member and text.startswith("-"):
        member.problem(f"`{text}` would be taken for an option by git")
    return text


def _script(cursor: Cursor) -> str:
    """As written: `${…}` in a script is the shell's."""
    member = cursor.get("custom_script")
    if member is None:
        return ""
    if not isinstance(member.value, str):
        member.problem("must be a text")
        return ""
    return member.value


def _env(cursor: Cursor) -> dict[str, str]:
    member = cursor.get("env")
    values: dict[str, str] = {}
    for key, one in member.members() if member else ():
        reference = _REFERENCE.fullmatch(one.value) if isinstance(one.value, str) else None
        if reference:
            values[key] = cursor.document.environ.get(reference[1], "")
        else:
            values[key] = one.text()
    return values
