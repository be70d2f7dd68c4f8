"""Payloads from files, outputs into files."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.jobs.errors import PayloadUnusable
from machine_lifecycle.jobs.files import read_payload, save
from machine_lifecycle.jobs.result_errors import OutputNotSaved
from machine_lifecycle.model.jobs import Output

GRAPH = {"3": {"class_type": "KSampler", "inputs": {}}}


def output(name: str) -> Output:
    return Output(name=name, kind="image", mime="image/png", data=b"x")


def test_a_graph_is_put_under_workflow(tmp_path: Path) -> None:
    file = tmp_path / "g.json"
    file.write_text(json.dumps(GRAPH), encoding="utf-8")
    assert read_payload(file) == {"workflow": GRAPH}
    file.write_text('{"steps": 3}', encoding="utf-8")
    assert read_payload(file) == {"steps": 3}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_payload_may_be_in_any_encoding_of_json(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "g.json"
    file.write_text('{"text": "☃ 😀"}', encoding=encoding)
    assert read_payload(file) == {"text": "☃ 😀"}


@pytest.mark.parametrize(
    "text", ["", "[]", '{"nodes": [], "links": []}', '{"a":' * 100_000 + "1" + "}" * 100_000]
)
def test_what_is_no_payload_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "g.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(PayloadUnusable):
        read_payload(file)
    with pytest.raises(PayloadUnusable):
        read_payload(tmp_path / "nothing.json")


@pytest.mark.parametrize("name", ["../../up.png", "..\\..\\up.png", "/etc/up.png", "up.png"])
def test_outputs_stay_in_their_folder_and_replace_nothing(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "out"
    assert save(output(name), folder, "j1") == folder / "up.png"
    assert save(output(name), folder, "j1") == folder / "up-1.png"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]


@pytest.mark.parametrize(
    ("name", "saved"),
    [
        ("a\0b.png", "a_b.png"),
        ("\ud800.png", "?.png"),
        ("", "output"),
        ("..", "..-1"),
        (f"{'é' * 300}.png", f"{'é' * 98}.png"),
    ],
)
def test_outputs_that_no_file_may_be_called_like_are_saved(
    tmp_path: Path, name: str, saved: str
) -> None:
    assert save(output(name), tmp_path / "out", "j1") == tmp_path / "out" / saved


def test_a_folder_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotSaved, match=r"what job j1 made .*/file/out: Not a"):
        save(output("up.png"), tmp_path / "file" / "out", "j1")


def test_of_a_file_that_has_no_room_nothing_stays(tmp_path: Path) -> None:
    large = attrs.evolve(output("up.png"), data=b"x" * 4096)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, before[1]))
    try:
        with pytest.raises(OutputNotSaved, match="File too large"):
            save(large, tmp_path / "out", "j1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list((tmp_path / "out").iterdir()) == []
