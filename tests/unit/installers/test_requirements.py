"""Requirement files of node packs: every line is admitted, or refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from packaging.requirements import Requirement

from machine_lifecycle.installers.package_names import families, module_of
from machine_lifecycle.installers.requirements import (
    Reading,
    Why,
    decode,
    environment_of,
    read_requirements,
)

PYTHON = environment_of("3.12.4")


def read(text: str, **others: str) -> Reading:
    """What a pack's lines come to; ``__`` in the name of another file stands for a dot."""
    files = {name.replace("__", "."): body for name, body in others.items()}
    return read_requirements({"requirements.txt": text, **files}.get, environment=PYTHON)


@pytest.mark.parametrize(
    ("line", "why", "word"),
    [
        ("numpy<1.24>=1.18", Why.MALFORMED, "comma"),
        ("git+https://", Why.MALFORMED, "no repository"),
        ("git+https", Why.MALFORMED, "no repository"),
        ("https://host/archive.tar.gz", Why.MALFORMED, "which package"),
        ("https://host/download?file=1", Why.MALFORMED, "which package"),
        ("torch from pypi", Why.MALFORMED, ""),
        ("foo==1; python_vers < '3'", Why.MALFORMED, ""),
        ("scipy.signal", Why.MODULE, "scipy"),
        ("cv2", Why.MODULE, "opencv-python"),
        ("PIL>=9", Why.MODULE, "pillow"),
        ("uuid", Why.MODULE, "part of Python"),
        ("-e .", Why.OPTION, "editable"),
        ("-e git+https://github.com/a/b#egg=b", Why.OPTION, "editable"),
        ("--editable=.", Why.OPTION, "editable"),
        ("--trusted-host example.org", Why.OPTION, "certificate"),
        ("--extra-index-url https://example.org/simple", Why.OPTION, "settings"),
        ("-fhttps://example.org", Why.OPTION, "settings"),
        ("--pre", Why.OPTION, "unfinished"),
        ("foo==1 --global-option=x", Why.OPTION, "after a requirement"),
        ("--unheard-of", Why.OPTION, "not known"),
        ("./wheels/a-1.0-py3-none-any.whl", Why.LOCAL, "disk"),
        ("C:\\wheels\\a.whl", Why.LOCAL, "disk"),
        ("a @ file:///wheels/a.whl", Why.LOCAL, "disk"),
        ("file:///wheels/a.whl", Why.LOCAL, "disk"),
        ("git+file:///srv/a", Why.INSECURE, "file"),
        ("git+http://host/a", Why.INSECURE, "http"),
        ("http://host/a-1.0-py3-none-any.whl", Why.INSECURE, "http"),
        ("foo==${VERSION}", Why.VARIABLE, "variable"),
        ("-r ../../etc/passwd", Why.INCLUDE, "outside"),
        ("-r /etc/passwd", Why.INCLUDE, "outside"),
        ("-r https://host/list.txt", Why.INCLUDE, "outside"),
        ("-r nowhere.txt", Why.INCLUDE, "no nowhere.txt"),
        ("-r requirements.txt", Why.INCLUDE, "includes it"),
        ("pip==20.0", Why.INSTALLER, "stays as it is"),
        ("setuptools<70", Why.INSTALLER, "stays as it is"),
    ],
)
def test_a_line_is_refused_with_its_reason_and_costs_only_itself(
    line: str, why: Why, word: str
) -> None:
    found = read(f"before\n{line}\nafter>=1\n")
    assert [one.name for one in found.admitted] == ["before", "after"]
    (refused,) = found.refused
    assert (refused.why, refused.text, str(refused.place)) == (why, line, "requirements.txt:2")
    assert word.lower() in refused.reason.lower()


@pytest.mark.parametrize(
    ("line", "why", "word"),
    [
        ("git+https://robot:s3cret@host/a.git", Why.LOGIN, "GIT_CONFIG_COUNT"),
        ("a @ git+ssh://git:s3cret@host/a.git", Why.LOGIN, "login"),
        ("a @ https://s3cret@host/a-1.0-py3-none-any.whl", Why.LOGIN, "netrc"),
        ("--extra-index-url https://robot:s3cret@host/simple", Why.OPTION, "settings"),
        ("-r https://s3cret@host/more.txt", Why.INCLUDE, "outside"),
        ("a @ https://host/a-1.0-py3-none-any.whl?token=s3cret", Why.LOGIN, "netrc"),
        ("https://host/a-1.0-py3-none-any.whl?v=1&X-Amz-Signature=s3cret", Why.LOGIN, "index"),
        ("git+https://host/a.git?private_token=s3cret#egg=a", Why.LOGIN, "login"),
        ("-f https://host/simple?sig=s3cret&sv=1", Why.OPTION, "settings"),
        ("-r https://host/more.txt?api_key=s3cret", Why.INCLUDE, "outside"),
    ],
)
def test_a_line_with_credentials_is_refused_and_shown_without(
    line: str, why: Why, word: str
) -> None:
    (refused,) = read(f"before\n{line}\n").refused
    assert refused.why is why
    assert word in refused.reason
    assert "s3cret" not in refused.text + refused.reason
    assert "***@host" in refused.text or "=***" in refused.text


def test_what_an_address_asks_for_is_no_credential() -> None:
    line = "a @ https://host/a-1.0-py3-none-any.whl?download=true&author=me#sha256=00"
    (one,) = read(f"{line}\n").admitted
    assert one.text == line


def test_the_name_of_an_ssh_host_is_no_secret() -> None:
    (one,) = read("a @ git+ssh://git@host/a.git\n").admitted
    assert one.vcs == "ssh://git@host/a.git"


@pytest.mark.parametrize(
    ("line", "name", "text"),
    [
        ("Foo_Bar", "foo-bar", "Foo_Bar"),
        ("ruamel.yaml>=0.18", "ruamel-yaml", "ruamel.yaml>=0.18"),
        ("foo[a,b] >= 1, <2  # why", "foo", "foo[a,b]<2,>=1"),
        ("foo==1 --hash=sha256:00 --hash=sha256:11", "foo", "foo==1"),
        ("foo==1 \\\n    --hash=sha256:00", "foo", "foo==1"),
        (
            "https://host/foo-1.0-py3-none-any.whl",
            "foo",
            "foo @ https://host/foo-1.0-py3-none-any.whl",
        ),
        ("foo @ https://host/f.zip", "foo", "foo @ https://host/f.zip"),
    ],
)
def test_a_line_is_admitted_in_one_form(line: str, name: str, text: str) -> None:
    found = read(line)
    assert [(one.name, one.text) for one in found.wanted] == [(name, text)]
    assert found.refused == ()


@pytest.mark.parametrize(
    ("line", "vcs", "revision", "pinned"),
    [
        ("git+https://h/a/b", "https://h/a/b", "", "git+https://h/a/b@0f"),
        ("git+https://h/a/b.git@v1", "https://h/a/b.git", "v1", "git+https://h/a/b.git@0f"),
        ("git+https://h/a/b@main#egg=foo", "https://h/a/b", "main", "foo @ git+https://h/a/b@0f"),
        (
            "foo[x] @ git+ssh://git@h/a/b@v2#subdirectory=s&egg=foo",
            "ssh://git@h/a/b",
            "v2",
            "foo[x] @ git+ssh://git@h/a/b@0f#subdirectory=s",
        ),
        (
            "foo @ git+https://h/a/b ; python_version > '3'",
            "https://h/a/b",
            "",
            "foo @ git+https://h/a/b@0f ; python_version > '3'",
        ),
    ],
)
def test_a_repository_is_kept_and_can_be_pinned(
    line: str, vcs: str, revision: str, pinned: str
) -> None:
    (one,) = read(line).wanted
    assert (one.vcs, one.revision) == (vcs, revision)
    assert one.pinned("0f") == pinned


def test_markers_are_held_against_the_python_that_is_asked_for() -> None:
    found = read(
        "new; python_version >= '3.12'\nold; python_version < '3.12'\n"
        "git+https://h/a/b ; python_version < '3'\n"
    )
    assert [one.name for one in found.wanted] == ["new"]
    assert len(found.admitted) == 3
    assert found.refused == ()


def test_files_of_the_pack_are_followed_and_constraints_kept_apart() -> None:
    files = {
        "requirements.txt": "-r more/list.txt\n-c more/bounds.txt\nlast",
        "more/list.txt": "first\n--requirement=deep.txt\n",
        "more/deep.txt": "second\nnumpy<1.24>=1.18",
        "more/bounds.txt": "second<2",
    }
    found = read_requirements(files.get)
    assert [one.name for one in found.admitted] == ["first", "second", "last"]
    assert [one.text for one in found.constraints] == ["second<2"]
    assert [str(one.place) for one in found.refused] == ["more/deep.txt:2"]


def test_a_pack_without_the_file_requires_nothing() -> None:
    nothing: dict[str, str] = {}
    assert read_requirements(nothing.get) == Reading()


def test_files_as_editors_save_them_are_read() -> None:
    for data in (b"foo\r\nbar\r\n", b"\xef\xbb\xbffoo\nbar", "foo\nbar\n".encode("utf-16")):
        assert [one.name for one in read(decode(data)).admitted] == ["foo", "bar"]
    broken = read(decode(b"foo\xff==1\nbar"))
    assert [one.name for one in broken.admitted] == ["bar"]
    assert broken.refused[0].why is Why.MALFORMED


_WORDS = st.sampled_from(
    [
        *("numpy", "torch", "a", "-e", "-r", "-c", "--hash=sha256:0", "git+https://h/x", "@", ";"),
        *("==1", "<2>=1", "#", " ", "\\\n", "\n", "[x]", "${A}", "https://h/a-1-py3-none-any.whl"),
        *("python_version<'3'", "file:///x", "\ufeff", "\x00", "[", "](", "git+https://[", "é"),
    ]
)


@given(st.one_of(st.text(), st.lists(_WORDS).map("".join), st.lists(_WORDS).map(" ".join)))
@example("git+https://[")
@example("a @ https://[x")
@example("x ; extra == 'a'")
@example("x ; os_name ~= '1'")
@example("git+https://h/x ; nonsense")
def test_no_text_breaks_the_reader_and_what_it_admits_is_what_it_reads_again(text: str) -> None:
    found = read(text)
    again = read("\n".join(one.text for one in found.admitted))
    assert [(one.name, one.text, one.here) for one in again.admitted] == [
        (one.name, one.text, one.here) for one in found.admitted
    ]
    assert again.refused == ()
    for one in found.admitted:
        assert not one.text.startswith("-")
        assert one.vcs or Requirement(one.text).name


_LINE = st.sampled_from(
    [
        "foo",
        "bar==1",
        "scipy.signal",
        "-e .",
        "git+https://h/x@y",
        "numpy<1.24>=1.18",
        "x;os_name=='?'",
    ]
)


@given(st.lists(_LINE))
def test_each_line_is_in_exactly_one_list(lines: list[str]) -> None:
    found = read("\n".join(lines))
    places = sorted(
        [one.place.line for one in found.admitted] + [one.place.line for one in found.refused]
    )
    assert places == list(range(1, len(lines) + 1))


@pytest.mark.parametrize("family", families(), ids=lambda family: family.name)
def test_a_family_comes_down_to_one_of_its_members(family: object) -> None:
    assert family in families()
    for one in families():
        assert one.chosen((), gpu=False) == one.chosen(("numpy",), gpu=True) == ""
        for member in one.members:
            for gpu in (False, True):
                assert one.chosen((member,), gpu=gpu) in one.members
        assert one.rule


def test_rules_of_families() -> None:
    opencv, onnx = families()
    assert opencv.chosen(("opencv-python",), gpu=True) == "opencv-python-headless"
    both = ("opencv-python", "opencv-contrib-python")
    assert opencv.chosen(both, gpu=True) == "opencv-contrib-python-headless"
    assert onnx.chosen(("onnxruntime", "onnxruntime-gpu"), gpu=True) == "onnxruntime-gpu"
    assert onnx.chosen(("onnxruntime-gpu",), gpu=False) == "onnxruntime"


def test_names_of_packages_are_no_modules() -> None:
    assert [module_of(name) for name in ("numpy", "zope.interface", "scipy", "pillow")] == [""] * 4
