from __future__ import annotations

import json

import pytest

from machine_lifecycle.config.nodes import NodeEntry, parse_nodes
from machine_lifecycle.errors import Problems

ITEMS = [
    {
        "name": "Alpha",
        "url": "git clone https://example.org/a.git",
        "requirements": True,
        "env": {"TOKEN": "${TOKEN}", "MODE": "${MODE:-fast}", "UNSET": "${UNSET}"},
        "custom_script": "for x in ${all}; do :; done",
    },
    {
        "name": "Beta",
        "url": "https://example.org/b",
        "branch": "dev",
        "commit": "abc",
        "required": True,
    },
]


def parse(value: object) -> tuple[NodeEntry, ...]:
    return parse_nodes(json.dumps(value, indent=1), {"TOKEN": "t0p"}, "nodes.json")


def test_a_list_and_an_object_with_one_are_the_same() -> None:
    nodes = parse(ITEMS)
    assert nodes == parse({"custom_nodes": ITEMS})
    assert nodes[0].url == "https://example.org/a.git"
    assert nodes[0].env == {"TOKEN": "t0p", "MODE": "fast", "UNSET": ""}
    assert nodes[0].custom_script == "for x in ${all}; do :; done"
    assert "t0p" not in repr(nodes)
    assert (nodes[1].branch, nodes[1].commit, nodes[1].required) == ("dev", "abc", True)


def test_an_object_by_name() -> None:
    assert [one.name for one in parse({"Gamma": {"url": "https://example.org/g"}})] == ["Gamma"]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ([{"name": "../up", "url": "u"}], "outside the folder"),
        ([{"name": "a/b", "url": "u"}], "outside the folder"),
        ([{"name": "..", "url": "u"}], "outside the folder"),
        ([{"name": "x"}], "has no `url`"),
        ([{"name": "x", "url": "u"}, {"name": "X", "url": "v"}], "already"),
        ([{"name": "x", "url": "--upload-pack=evil"}], "no address"),
        ([{"name": "x", "url": "u", "branch": "-f"}], "option"),
        ([3], "must be an object"),
        ([{"name": "x", "url": "u", "requirements": "perhaps"}], "true or false"),
    ],
)
def test_what_is_refused(value: object, words: str) -> None:
    with pytest.raises(Problems, match=words):
        parse(value)


def test_empty_lists() -> None:
    assert parse([]) == ()
    assert parse({"custom_nodes": []}) == ()


def test_a_name_is_read_from_every_form_of_address() -> None:
    forms = (
        "https://h/o/pack.git",
        "git@h:o/pack",
        "git@h:pack.git",
        "/srv/pack/",
        "git clone h:pack",
    )
    assert [parse([{"url": url}])[0].name for url in forms] == ["pack"] * len(forms)


def test_a_password_in_an_unusable_address_is_not_shown() -> None:
    with pytest.raises(Problems) as caught:
        parse([{"name": "a", "url": "https://me:s3cret@h/a b"}])
    assert "s3cret" not in str(caught.value)
