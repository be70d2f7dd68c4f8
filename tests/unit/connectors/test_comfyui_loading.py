"""Which packs a ComfyUI loaded, from what three versions of it logged with the same folder.

The folder held: packs that load (one with a dot in its name), one whose import needs a module that
is not there, one that raises a text of two lines, one that raises without a text, a syntax error, a
name that another module has not, one with scripts and no node, one with scripts that does not even
say so, one with nothing, a folder without ``__init__.py``, one that has the newer way to declare
nodes alone, and fails in it, and one whose startup script fails, though it can be imported.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from machine_lifecycle.connectors.comfyui_loading import (
    LoadingLog,
    module_pack,
    packs_of,
    served_packs,
)
from machine_lifecycle.model.packs import Pack, PackState

CAPTURED = Path(__file__).parents[2] / "data" / "loading"
VERSIONS = ("fork", "upstream", "newest")


def read(text: str) -> LoadingLog:
    log = LoadingLog()
    for line in text.splitlines(keepends=True):
        log.feed(line)
    return log


def captured(version: str, *, text: str | None = None) -> dict[str, Pack]:
    pages = json.loads((CAPTURED / f"{version}.json").read_text())
    log = read((CAPTURED / f"{version}.log").read_text() if text is None else text)
    modules = (module_pack(entry["python_module"]) for entry in pages["object_info"].values())
    nodes = Counter(filter(None, modules))
    return {pack.name: pack for pack in packs_of(log, nodes, served_packs(pages["extensions"]))}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_names_what_is_in_and_what_failed(version: str) -> None:
    packs = captured(version)
    states = {name: pack.state for name, pack in packs.items()}
    loaded = {"good", "dotted.pack-1", "websocket_image_save", "js_only", "js_plain"}
    assert {name for name, state in states.items() if state is PackState.LOADED} == loaded
    failed = {name: packs[name].reason for name in states if name not in loaded}
    assert set(states.values()) == {PackState.LOADED, PackState.FAILED}
    assert failed["missing_module"] == "ModuleNotFoundError: No module named 'not_there'"
    assert packs["missing_module"].missing == "not_there"
    assert failed["raises"] == "RuntimeError: no card of this kind"
    assert failed["silent"] == "ValueError"
    assert failed["syntax"] == "SyntaxError: invalid syntax (__init__.py, line 1)"
    assert failed["multi"].startswith("ImportError: cannot import name 'nothing_of_this' from ")
    assert failed["no_nodes"].startswith("it has no NODE_CLASS_MAPPINGS")
    assert failed["no_init"].startswith("FileNotFoundError: [Errno 2] No such file or directory:")
    own = {"fork": "it has no NODE_CLASS_MAPPINGS"}
    assert failed["v3_only"] == own.get(version, "comfy_entrypoint: entry is broken")
    assert not any(packs[name].reason for name in loaded)
    assert {packs[name].missing for name in packs} == {"", "not_there"}


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_tells_what_the_imports_took(version: str) -> None:
    packs = captured(version)
    assert {name: packs[name].seconds for name in ("good", "js_only", "raises")} == {
        "good": 0.3, "js_only": 0.0, "raises": 0.0,
    }  # fmt: skip
    # The table of startup scripts before it has rows of the same form, and is no news of imports.
    assert "PRESTARTUP FAILED" in (CAPTURED / f"{version}.log").read_text()
    assert {name: packs[name].nodes for name in ("good", "dotted.pack-1", "js_only")} == {
        "good": 1, "dotted.pack-1": 1, "js_only": 0,
    }  # fmt: skip


def test_without_a_log_the_nodes_alone_tell() -> None:
    pages = {"a": 3, "b.c": 1}
    found = packs_of(None, pages)
    assert [(pack.name, pack.nodes, pack.state, pack.seconds) for pack in found] == [
        ("a", 3, PackState.LOADED, None), ("b.c", 1, PackState.LOADED, None),
    ]  # fmt: skip


@pytest.mark.parametrize("version", VERSIONS)
def test_a_log_of_warnings_alone_still_names_what_failed(version: str) -> None:
    whole = (CAPTURED / f"{version}.log").read_text()
    packs = captured(version, text=whole.partition("Import times")[0])
    assert packs["missing_module"].state is PackState.FAILED
    assert packs["raises"].reason == "RuntimeError: no card of this kind"
    assert packs["good"] == Pack(name="good", nodes=1)
    assert "js_only" not in packs, "nothing is known of it"


def test_the_log_is_believed_over_nodes_that_are_left_of_a_failed_pack() -> None:
    (pack,) = packs_of(read("Cannot import /c/custom_nodes/half module for custom nodes: no\n"),
                       {"half": 2})  # fmt: skip
    assert (pack.state, pack.nodes, pack.reason) == (PackState.FAILED, 2, "no")


def test_a_failed_row_without_a_complaint_is_a_failure_without_a_reason() -> None:
    text = "Import times for custom nodes:\n   1.5 seconds (IMPORT FAILED): /c/custom_nodes/x\n"
    (pack,) = packs_of(read(text), {})
    assert (pack.state, pack.seconds) == (PackState.FAILED, 1.5)
    assert "does not say why" in pack.reason


def test_packs_that_are_left_out_on_purpose_are_absent() -> None:
    log = read(
        "Prestartup Skipping one due to disable_all_custom_nodes and whitelist_custom_nodes\n"
        "Skipping one due to disable_all_custom_nodes and whitelist_custom_nodes\n"
        "Blocked by policy: /c/custom_nodes/two\n"
        "Skipping loading of custom nodes\n"
    )
    assert log.complete
    found = {pack.name: (pack.state, pack.reason) for pack in packs_of(log, {})}
    assert found == {
        "one": (
            PackState.ABSENT,
            "skipping one due to disable_all_custom_nodes and whitelist_custom_nodes",
        ),
        "two": (PackState.ABSENT, "blocked by policy: /c/custom_nodes/two"),
    }


def test_comfyuis_own_nodes_are_no_packs() -> None:
    text = "Cannot import /c/comfy_extras/nodes_audio.py module for custom nodes: no av\n"
    assert packs_of(read(text), {}) == ()
    assert module_pack("comfy_extras.nodes_audio") == module_pack("nodes") == ""


def test_another_pack_s_traceback_is_not_taken_for_the_reason() -> None:
    text = (
        "Traceback (most recent call last):\n"
        '  File "x.py", line 1, in <module>\n'
        "OSError: no way to the list of packs\n"
        "Cannot import /c/custom_nodes/x module for custom nodes: something else\n"
    )
    (pack,) = packs_of(read(text), {})
    assert pack.reason == "something else"


def test_what_a_pack_prints_in_between_does_no_harm() -> None:
    text = (
        "good says: 12.5 seconds: nothing of a table\n"
        "\nImport times for custom nodes:\n"
        "a thread: 40%|####   \r   0.2 seconds: /c/custom_nodes/a\n"
        "\n"
        "   0.1 seconds: C:\\comfy\\custom_nodes\\b\r\n"
        "\x1b[32m[INFO]\x1b[0m    9.4 seconds (IMPORT FAILED): /c/custom_nodes/c.py\n"
        "Starting server\n"
    )
    log = read(text)
    assert log.ended
    found = {pack.name: (pack.state.value, pack.seconds) for pack in packs_of(log, {})}
    assert found == {"a": ("loaded", 0.2), "b": ("loaded", 0.1), "c": ("failed", 9.4)}


def test_served_scripts_name_their_packs() -> None:
    addresses = ["/extensions/core/a.js", "/extensions/a%20pack/js/b.js", "/extensions/x", "/y"]
    assert served_packs(addresses) == {"a pack"}
