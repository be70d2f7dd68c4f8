"""The address of the queue."""

from __future__ import annotations

import pytest

from machine_lifecycle.model.redis_url import RedisUrl

PRIMARY = 'redis-cli -h "${node% *}" -p "${node#* }"'


@pytest.mark.parametrize(
    ("text", "address", "masked"),
    [
        ("redis://h", "h:6379", "redis://h:6379"),
        ("redis://h:1/2", "h:1", "redis://h:1/2"),
        ("redis://h:1?db=3", "h:1", "redis://h:1/3"),
        ("redis://:pw@[::1]:1", "[::1]:1", "redis://:***@[::1]:1"),
        ("rediss://u:p%40w@h/0?ssl_ca_certs=/ca", "h:6379", "rediss://u:***@h:6379"),
        ("redis://h?password=pw", "h:6379", "redis://h:6379"),
        ("unix://u:pw@/run/a.sock?db=1", "/run/a.sock", "unix://u:***@/run/a.sock/1"),
        ("redis+sentinel://a,b:2/main", "a:26379,b:2/main", "redis+sentinel://a:26379,b:2/main"),
        (
            "rediss+sentinel://u:pw@a:1/main/4?sentinel_password=pw",
            "a:1/main",
            "rediss+sentinel://u:***@a:1/main/4",
        ),
    ],
)
def test_what_is_shown_of_it(text: str, address: str, masked: str) -> None:
    read = RedisUrl.parse(text)
    assert (read.address, read.masked) == (address, masked)
    assert "pw" not in f"{read!r}"


@pytest.mark.parametrize(
    ("text", "cli"),
    [
        ("redis://h", "redis-cli -h h -p 6379"),
        ("redis://:pw@[::1]:1", "redis-cli -h ::1 -p 1 --askpass"),
        (
            "rediss://u:pw@h/0?ssl_ca_certs=/my%20ca",
            "redis-cli -h h -p 6379 --tls --cacert '/my ca' --user u --askpass",
        ),
        ("unix://:pw@/run/a.sock?db=3", "redis-cli -s /run/a.sock -n 3 --askpass"),
        (
            "redis+sentinel://a,b:2/main",
            "node=$(redis-cli -h a -p 26379 sentinel get-master-addr-by-name main | xargs) && "
            + PRIMARY,
        ),
        (
            "rediss+sentinel://u:pw@a:1/my%20own/2?sentinel_password=pw",
            (
                "node=$(REDISCLI_AUTH=SENTINEL_PASSWORD redis-cli -h a -p 1 --tls sentinel "
                f"get-master-addr-by-name 'my own' | xargs) && {PRIMARY} --tls -n 2 --user u "
                "--askpass"
            ),
        ),
    ],
)
def test_how_redis_cli_reaches_it(text: str, cli: str) -> None:
    assert RedisUrl.parse(text).cli == cli


def test_what_it_says() -> None:
    read = RedisUrl.parse("rediss+sentinel://u:p%40w@a:1,b/main/4?ssl_ca_certs=/ca")
    assert (read.user, read.password, read.service) == ("u", "p@w", "main")
    assert read.nodes == (("a", 1), ("b", 26379))
    assert (read.database, read.secure) == (4, True)
    assert read.options == {"ssl_ca_certs": "/ca"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("http://h", "must begin with"),
        ("redis://", "names no host"),
        ("redis://:pw@:1", "names no host"),
        ("unix://", "names no socket"),
        ("redis://a,b", "several hosts"),
        ("redis://h:99999", "Port out of range"),
        ("redis+sentinel://a:1", "names no service"),
        ("redis://h/main", "'main' is no number"),
    ],
)
def test_what_is_none(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        RedisUrl.parse(text)
    assert "pw" not in str(refused.value)
