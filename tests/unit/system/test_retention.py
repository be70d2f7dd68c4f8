"""Which old files go."""

from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from machine_lifecycle.system.retention import Kept, Rules, expired, sweep

NOW = 1_000_000.0
FILES = st.lists(
    st.builds(
        lambda name, size, age: Kept(path=Path(f"/o/{name}"), size=size, modified=NOW - age),
        st.integers(0, 10**6),
        st.integers(0, 1000),
        st.integers(-100, 10_000),
    ),
    unique_by=lambda file: file.path,
)
RULES = st.builds(
    lambda age, size, young: Rules(max_age=age, max_bytes=size, young=young),
    st.integers(0, 9000),
    st.integers(0, 9000),
    st.integers(0, 3000),
)


@given(FILES, RULES)
def test_what_goes_is_old_and_what_stays_is_within_bounds(files: list[Kept], rules: Rules) -> None:
    gone = expired(files, rules, NOW)
    stay = [file for file in files if file not in gone]
    assert all(NOW - file.modified >= rules.young for file in gone)
    assert all(one.modified <= other.modified for one in gone for other in stay)
    old = [file for file in stay if NOW - file.modified >= rules.young]
    if rules.max_age:
        assert all(NOW - file.modified <= rules.max_age for file in old)
    if rules.max_bytes and old:
        assert sum(file.size for file in stay) <= rules.max_bytes
    if not rules.max_age and not rules.max_bytes:
        assert gone == ()
    # No more goes than must: with the youngest of them, a bound would be broken.
    if gone:
        last, left = gone[-1], sum(file.size for file in stay)
        assert (rules.max_age and NOW - last.modified > rules.max_age) or (
            rules.max_bytes and left + last.size > rules.max_bytes
        )


def test_real_files_go_with_the_folders_that_they_leave_empty(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "output", tmp_path / "elsewhere"
    (out / "a" / "b").mkdir(parents=True)
    (out / "c").mkdir()
    elsewhere.mkdir()

    def write(path: Path, age: float) -> Path:
        path.write_bytes(b"x" * 10)
        os.utime(path, (NOW - age, NOW - age))
        return path

    old, young = write(out / "a" / "b" / "old", 9000), write(out / "c" / "young", 5)
    theirs = write(elsewhere / "theirs", 9000)
    (out / "link").symlink_to(theirs)
    (out / "folder").symlink_to(elsewhere)
    swept = sweep([out, tmp_path / "temp"], Rules(max_age=1000), NOW)
    assert (swept.removed, swept.left, swept.problems) == (1, 10, ())
    assert not old.exists()
    assert not (out / "a").exists()
    assert young.exists()
    assert theirs.exists()
    assert (out / "link").is_symlink()
    assert sweep([out / "folder"], Rules(max_age=1000), NOW).removed == 0
    assert sweep([out], Rules(max_bytes=1, young=0), NOW).removed == 1
    assert out.is_dir()
