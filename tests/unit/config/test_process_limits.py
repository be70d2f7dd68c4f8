"""``limits`` in the service mapping."""

from __future__ import annotations

import json

import pytest

from machine_lifecycle.config.mapping import parse_mapping
from machine_lifecycle.errors import LifecycleError
from machine_lifecycle.model.limits import UNLIMITED, Limits


def read(limits: object) -> Limits:
    services = {"comfyui": {"limits": limits}}
    workers = {"comfyui": {"services": ["comfyui"]}}
    text = json.dumps({"workers": workers, "services": services})
    return parse_mapping(text, {"CORES": "2-3"}, "m.json").services["comfyui"].limits


def test_all_of_them() -> None:
    said = {"nice": 5, "ionice": "best-effort:7", "cpus": "0,${CORES}", "umask": "027"}
    said |= {"nofile": 65536, "core": 0, "memlock": "unlimited", "user": "w", "group": "g"}
    assert read(said) == Limits(
        nice=5,
        ionice="best-effort:7",
        cpus=(0, 2, 3),
        umask=0o027,
        resources={"nofile": 65536, "core": 0, "memlock": UNLIMITED},
        user="w",
        group="g",
    )


def test_none() -> None:
    assert read(None) == Limits()


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"nofiles": 1}, "no limit `nofiles`"),
        ({"nice": 20}, "not within -20 to 19"),
        ({"ionice": "fast"}, "`fast` is no ionice"),
        ({"cpus": "0-"}, "`0-` is no cpus"),
        ({"umask": "9"}, "`9` is no umask"),
        ({"nofile": -2}, "not within 0"),
        ("fast", "must be an object"),
    ],
)
def test_wrong_ones_are_told_with_their_place(limits: object, words: str) -> None:
    with pytest.raises(LifecycleError, match=r"comfyui\.limits") as caught:
        read(limits)
    assert words in str(caught.value)
