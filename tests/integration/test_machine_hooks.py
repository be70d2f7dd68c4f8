"""What settings plug into a machine: a webhook, the stream in Redis, other packages' hooks."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from aiohttp import web

from machine_lifecycle import ConfigurationError, GateRefused, Machine, Settings
from machine_lifecycle.model.offers import Offer
from machine_lifecycle.observers.webhook import SIGNATURE
from machine_lifecycle.services.registry import Registry
from machine_lifecycle.system.redis import connect
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.support.redis_server import ValkeyServer

Open = Callable[..., Any]


@pytest.fixture
def opened() -> Iterator[Open]:
    folder = Path(tempfile.mkdtemp(prefix="ml-", dir="/tmp"))

    @asynccontextmanager
    async def make(**fields: Any) -> AsyncIterator[Machine]:
        defaults: dict[str, Any] = {
            "workspace": folder / "w",
            "runtime_dir": folder / "r",
            "machine_id": folder.name,
            "health_port": 0,
            "simulation_base_port": free_port(count=8),
            "boot_attempts": 1,
        }
        settings = Settings(**(defaults | fields))
        async with Machine.open(settings, environ={"PATH": "/usr/bin:/bin"}) as machine:
            yield machine

    yield make
    shutil.rmtree(folder)


@attrs.define
class Receiver:
    """A server that takes webhooks, and answers as it is told to."""

    url: str
    answers: list[int]
    got: list[tuple[dict[str, str], bytes]] = attrs.field(factory=list)
    news: asyncio.Condition = attrs.field(factory=asyncio.Condition)

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver(url="", answers=[])

    async def take(request: web.Request) -> web.Response:
        found.got.append((dict(request.headers), await request.read()))
        async with found.news:
            found.news.notify_all()
        return web.Response(status=found.answers.pop(0) if found.answers else 204)

    application = web.Application()
    application.router.add_post("/hook", take)
    runner = web.AppRunner(application)
    await runner.setup()
    port = free_port()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    found.url = f"http://127.0.0.1:{port}/hook?token=very-secret"
    yield found
    await runner.cleanup()


async def test_a_webhook_gets_each_event_once_in_order_and_signed(
    opened: Open, receiver: Receiver
) -> None:
    async with opened(webhook_url=receiver.url, webhook_secret="shared-secret") as machine:
        await machine.boot()
        await machine.stop()
    told = receiver.events()
    targets = [event["target"] for event in told if event["kind"] == "changed"]
    assert targets[0] == "installing"
    assert targets[-1] == "stopped"
    kinds = {event["kind"] for event in told}
    assert kinds == {"changed", "machine_ready", "machine_stopped"}, "and none that was not asked"
    numbers = [event["seq"] for event in told]
    assert numbers == sorted(set(numbers))
    for headers, body in receiver.got:
        fields = dict(part.split("=") for part in headers[SIGNATURE].split(","))
        mac = hmac.new(b"shared-secret", fields["t"].encode() + b"." + body, hashlib.sha256)
        assert hmac.compare_digest(mac.hexdigest(), fields["v1"])
    assert len({headers["X-Machine-Delivery"] for headers, _ in receiver.got}) == len(told)


async def test_an_event_that_is_not_taken_is_tried_again_and_keeps_its_place(
    opened: Open, receiver: Receiver
) -> None:
    receiver.answers += [503, 429]
    async with opened(webhook_url=receiver.url, webhook_events="machine_ready") as machine:
        await machine.boot()
        async with receiver.news:
            await asyncio.wait_for(receiver.news.wait_for(lambda: len(receiver.got) == 3), PATIENCE)
    deliveries = [headers["X-Machine-Delivery"] for headers, _ in receiver.got]
    assert len(deliveries) == 3
    assert len(set(deliveries)) == 1, "a receiver can tell that it is the same"
    assert {event["kind"] for event in receiver.events()} == {"machine_ready"}
    assert SIGNATURE not in receiver.got[0][0]


async def test_a_refusal_is_not_tried_again_and_no_secret_is_told(
    opened: Open, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.answers += [400]
    caplog.set_level(logging.DEBUG, "machine_lifecycle")
    fields = {"webhook_url": receiver.url, "webhook_events": "machine_ready,machine_stopped"}
    async with opened(**fields) as machine:
        await machine.boot()
        await machine.stop()
    assert [event["kind"] for event in receiver.events()] == ["machine_ready", "machine_stopped"]
    assert "the webhook at 127.0.0.1 did not take event" in caplog.text
    assert "very-secret" not in caplog.text


async def test_a_webhook_that_nobody_answers_harms_no_boot(opened: Open) -> None:
    async with opened(webhook_url=f"http://127.0.0.1:{free_port()}/") as machine:
        await asyncio.wait_for(machine.boot(), PATIENCE)
        assert machine.state.value == "ready"


async def test_events_are_in_redis_for_those_who_come_late_and_those_who_listen(
    opened: Open,
) -> None:
    server = ValkeyServer()
    server.start()
    try:
        async with opened(redis_url=server.url) as machine:
            key = f"machine:{machine.id}:events"
            redis: Any = connect(server.url)
            listener = connect(server.url, blocking=True).pubsub(ignore_subscribe_messages=True)
            await listener.subscribe(key)
            await machine.boot()
            while True:
                message = await asyncio.wait_for(listener.get_message(timeout=None), PATIENCE)
                if message and json.loads(message["data"])["kind"] == "machine_ready":
                    break
            entries = [json.loads(fields["event"]) for _, fields in await redis.xrange(key)]
            left = await redis.ttl(key)
            await listener.aclose()
            await redis.aclose()
    finally:
        server.close()
    first = next(event for event in entries if event["kind"] == "changed")
    assert (first["source"], first["target"]) == ("starting", "installing"), "from the beginning"
    numbers = [event["seq"] for event in entries]
    assert numbers == sorted(set(numbers))
    assert "step_progressed" not in {event["kind"] for event in entries}
    assert 0 < left <= 24 * 3600


async def test_no_stream_where_none_is_wanted(opened: Open) -> None:
    server = ValkeyServer()
    server.start()
    try:
        async with opened(redis_url=server.url, events_stream=0) as machine:
            await machine.boot()
            redis = connect(server.url)
            assert await redis.exists(f"machine:{machine.id}:events") == 0
            await redis.aclose()
    finally:
        server.close()


PLUGIN = """
from machine_lifecycle import GateDefinition, GatePoint, GateRefused

heard = []

class Counting:
    def __call__(self, event):
        heard.append(event.kind)

def refuse(passage):
    raise GateRefused(reason="not today")

CLOSED = GateDefinition(point=GatePoint.LAUNCH, gate=refuse)
NOTHING = 42
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An installed distribution that offers an observer and a gate."""
    (tmp_path / "hooks_of_others.py").write_text(PLUGIN, encoding="utf-8")
    described = tmp_path / "hooks_of_others-1.2.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Name: hooks-of-others\nVersion: 1.2\n", encoding="utf-8")
    (described / "entry_points.txt").write_text(
        "[machine_lifecycle.observers]\ncounting = hooks_of_others:Counting\n"
        "number = hooks_of_others:NOTHING\n"
        "[machine_lifecycle.gates]\nclosed = hooks_of_others:CLOSED\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "hooks_of_others"
    sys.modules.pop("hooks_of_others", None)


def test_what_another_package_offers_is_listed_with_its_version(package: str) -> None:
    theirs = [one for one in Registry().origins() if one.distribution == "hooks-of-others"]
    assert [(one.offer, one.name, one.version, one.reference) for one in theirs] == [
        (Offer.OBSERVER, "counting", "1.2", f"{package}:Counting"),
        (Offer.OBSERVER, "number", "1.2", f"{package}:NOTHING"),
        (Offer.GATE, "closed", "1.2", f"{package}:CLOSED"),
    ]
    assert package not in sys.modules, "and is not imported for that"


async def test_an_observer_of_another_package_hears_the_boot(opened: Open, package: str) -> None:
    async with opened(observers="counting") as machine:
        await machine.boot()
    heard = sys.modules[package].heard
    assert "machine_ready" in heard


async def test_a_gate_of_another_package_refuses(opened: Open, package: str) -> None:
    async with opened(gates="closed") as machine:
        with pytest.raises(GateRefused, match="closed refuses, before launch: not today"):
            await machine.boot()
    assert package in sys.modules


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"observers": "nobody"}, "service-unknown"),
        ({"observers": "number"}, "hook-unusable"),
        ({"gates": "hooks_of_others:refuse"}, "hook-unusable"),
        ({"gates": "hooks_of_others:gone"}, "service-broken"),
        ({"webhook_url": "http://127.0.0.1:1/", "webhook_events": "changes"}, "hook-unusable"),
    ],
)
async def test_what_can_not_be_plugged_in_is_told_before_anything_starts(
    opened: Open, package: str, fields: dict[str, str], code: str
) -> None:
    assert package
    with pytest.raises(ConfigurationError) as told:
        async with opened(**fields):
            pytest.fail("it was opened")
    assert told.value.code == code
    assert told.value.remedies
