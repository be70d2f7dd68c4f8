"""The socket to a ComfyUI, at a server that sends what none is known to send."""

from __future__ import annotations

import asyncio
import json
import struct

from websockets.asyncio.server import ServerConnection, serve

from machine_lifecycle.connectors.base import Endpoint
from machine_lifecycle.connectors.comfyui_events import Event, Greeting, Picture, Started
from machine_lifecycle.connectors.comfyui_socket import ComfyUISocket
from tests.support.patience import PATIENCE

GREETING = json.dumps({"type": "client_id", "data": {"client_id": "me"}})
STARTED = json.dumps({"type": "execution_start", "data": {"prompt_id": "p"}})
PICTURE = struct.pack(">II", 1, 2) + b"a picture"


async def test_messages_in_pieces_are_put_together_in_their_order() -> None:
    heard: list[Event] = []
    links: list[str] = []
    over = asyncio.Event()
    spoke: list[ServerConnection] = []

    async def speak(connection: ServerConnection) -> None:
        spoke.append(connection)
        if len(spoke) > 1:
            return  # it comes back, and all was said
        await connection.send(GREETING)
        await connection.send([STARTED[:5], STARTED[5:20], STARTED[20:]])
        await connection.ping()
        await connection.send([PICTURE[:3], PICTURE[3:]])
        await connection.send(b"no head")
        await connection.send(b"\xff, no text", text=True)
        await connection.send(STARTED)

    def link(client_id: str) -> None:
        links.append(client_id)
        if not client_id:
            over.set()

    async with serve(speak, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        socket = ComfyUISocket(Endpoint(host="127.0.0.1", port=port), "us", heard.append, link)
        socket.start()
        try:
            async with asyncio.timeout(PATIENCE):
                await over.wait()
        finally:
            await socket.stop()
    picture = Picture("image/png", b"a picture")
    said = [event for event in heard if isinstance(event, Greeting | Started | Picture)]
    assert said == [Greeting("me"), Started("p"), picture, Started("p")]
    assert links == ["me", ""]
    assert socket.malformed == 2
