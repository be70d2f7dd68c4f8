from __future__ import annotations

import json

import pytest

from machine_lifecycle.config.errors import ModelsInvalid
from machine_lifecycle.config.models import ModelEntry, parse_models
from machine_lifecycle.errors import Problems

SHA = "ab" * 32
URL = "https://example.org/files/sdxl%20base.safetensors?download=true"


def parse(*models: object, **environ: str) -> tuple[ModelEntry, ...]:
    return parse_models(json.dumps({"models": models}, indent=1), environ, "models.json")


def problems(*models: object) -> list[str]:
    with pytest.raises(Problems) as caught:
        parse(*models)
    assert all(isinstance(error, ModelsInvalid) for error in caught.value.errors)
    return [error.summary for error in caught.value.errors]


def test_all_that_may_be_said_of_a_model() -> None:
    (one,) = parse(
        {
            "url": "https://${HOST:-example.org}/m?key=${KEY}",
            "sha256": f"sha256:{SHA.upper()}",
            "size": 7,
            "target": "checkpoints/sub/m.safetensors",
            "required": True,
            "description": "the base",
        },
        KEY="k3y",
    )
    assert one == ModelEntry(
        target="checkpoints/sub/m.safetensors",
        url="https://example.org/m?key=k3y",
        sha256=SHA,
        size=7,
        required=True,
    )
    assert one.plain_url == "https://example.org/m"
    assert "k3y" not in repr(one)


def test_a_plain_list_and_a_folder_as_target() -> None:
    text = json.dumps([{"url": URL, "target": "loras/"}])
    assert parse_models(text, {}, "m")[0].target == "loras/sdxl base.safetensors"
    assert parse_models("[]", {}, "m") == ()
    assert parse_models('{"models": []}', {}, "m") == ()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"url": None}, "has no `url`"),
        ({"url": ""}, "is empty"),
        ({"url": "ftp://example.org/m"}, "no whole http"),
        ({"url": "ext::sh -c id"}, "no whole http"),
        ({"url": "-o/etc/passwd"}, "no whole http"),
        ({"url": "https:///m"}, "no whole http"),
        ({"url": "https://example.org:port/m"}, "no whole http"),
        ({"url": "https://example.org/a b"}, "no whole http"),
        ({"url": "https://example.org/${UNSET}"}, "UNSET"),
        ({"url": "http://example.org/m", "sha256": None}, "not encrypted"),
        ({"sha256": "abc"}, "is no SHA-256"),
        ({"size": 0}, "not within"),
        ({"size": "much"}, "not a whole number"),
        ({"required": "perhaps"}, "must be true or false"),
        ({"target": None}, "has no `target`"),
        ({"target": "/etc/m"}, "outside the folder of models"),
        ({"target": "loras/../../m"}, "outside the folder of models"),
        ({"target": "loras\\m"}, "outside the folder of models"),
        ({"target": "loras/.hidden"}, "begins with a dot"),
        ({"target": "loras/-rf"}, "begins with a dot or a dash"),
        ({"target": "m.safetensors"}, "names no folder"),
        ({"target": "loras/m\n"}, ""),
        ({"target": "loras/a\tb"}, "can't be printed"),
        ({"target": "loras/" + "m" * 201}, "longer than 200"),
        ({"target": "loras/", "url": "https://example.org/"}, "ends with no name"),
        ({"target": "loras/", "url": "https://example.org/a%2Fb"}, "ends with no name"),
        ({"sha": SHA}, "`sha` is not known"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(more: dict[str, object], told: str) -> None:
    model = {"url": "https://example.org/m", "sha256": SHA, "target": "loras/m", **more}
    if not told:  # a blank at the end of a text is none of it
        assert parse(model)[0].target == "loras/m"
        return
    (problem,) = problems(model)
    assert told in problem
    assert problem.startswith("models.json:")
    assert "$.models[0]" in problem


def test_all_problems_are_told_at_once_and_no_secret() -> None:
    found = problems(
        {"url": "http://me:s3cret@example.org/m?key=s3cret", "target": "../x"},
        "https://example.org/m",
        {"url": "https://example.org/m", "target": "loras/m"},
        {"url": "https://example.org/n", "target": "loras/M"},
    )
    assert [problem.partition(": ")[2].partition(":")[0] for problem in found] == [
        "$.models[0].url",
        "$.models[0].target",
        "$.models[1]",
        "$.models[3]",
    ]
    assert "is the target of $.models[2] already" in found[3]
    assert "s3cret" not in " ".join(found)


def test_what_is_no_list() -> None:
    for text in ("{", "7", '"x"', '{"models": "x"}', '{"a": 1}'):
        with pytest.raises(Problems):
            parse_models(text, {}, "models.json")
