"""The shapes of pages and frames, as they are on the wire."""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from tests.support.patience import PATIENCE


def _graph(color: int, prefix: str = "suite/pages") -> dict[str, Any]:
    empty = {"width": 16, "height": 16, "batch_size": 1, "color": color}
    return {
        "1": {"class_type": "EmptyImage", "inputs": empty},
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": prefix},
        },
    }


async def _post(service: Any, body: Any, path: str = "/prompt") -> tuple[int, Any]:
    async with service.http.post(service.url(path), json=body) as response:
        text = await response.text()
        return response.status, json.loads(text) if text.startswith(("{", "[")) else text


def _socket(service: Any, client_id: str) -> Any:
    url = f"ws://{service.host}:{service.port}/ws?clientId={client_id}"
    return connect(url, max_size=None, proxy=None)


async def _greeting(socket: Any) -> tuple[list[str], str]:
    """Types of the frames up to the first status, and the id it says."""
    kinds = []
    async for text in socket:
        frame = json.loads(text)
        kinds.append(frame["type"])
        if frame["type"] == "status":
            return kinds, frame["data"]["sid"]
    raise AssertionError("the socket closed")


async def _until_end(socket: Any, prompt_id: str) -> list[dict[str, Any]]:
    """Frames about one prompt, up to its last."""
    frames: list[dict[str, Any]] = []
    async for text in socket:
        frame = json.loads(text)
        if frame.get("data", {}).get("prompt_id") == prompt_id:
            frames.append(frame)
            if frame["type"] == "executing" and frame["data"]["node"] is None:
                break
    return frames


async def test_pages_have_their_shapes_also_under_api(service: Any) -> None:
    for prefix in ("", "/api"):
        stats = await service.get(f"{prefix}/system_stats")
        assert {"os", "ram_total", "ram_free", "comfyui_version", "argv"} <= set(stats["system"])
        assert {"name", "type", "index", "vram_total", "vram_free"} <= set(stats["devices"][0])
        assert await service.get(f"{prefix}/queue") == {"queue_running": [], "queue_pending": []}
        assert await service.get(f"{prefix}/prompt") == {"exec_info": {"queue_remaining": 0}}
        assert await service.get(f"{prefix}/history/unknown") == {}
        assert await service.get(f"{prefix}/object_info/NoSuchClass") == {}
        one = (await service.get(f"{prefix}/object_info/EmptyImage"))["EmptyImage"]
        assert list(one["input"]["required"]) == ["width", "height", "batch_size", "color"]
        assert one["output"] == ["IMAGE"]
        assert one["output_node"] is False
        assert "checkpoints" in await service.get(f"{prefix}/models")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("filename=absent.png&type=output", 404),
        ("", 404),
        ("filename=../../x.png&type=output", 400),
        ("filename=/etc/hostname&type=output", 400),
        ("filename=a.png&type=elsewhere", 400),
    ],
)
async def test_view_guards_its_files(service: Any, query: str, status: int) -> None:
    async with service.http.get(service.url(f"/view?{query}")) as response:
        assert response.status == status


async def test_an_upload_says_where_it_is(service: Any) -> None:
    form = aiohttp.FormData()
    form.add_field("image", b"not really", filename="suite.png")
    form.add_field("subfolder", "suite")
    form.add_field("overwrite", "true")
    async with service.http.post(service.url("/upload/image"), data=form) as response:
        assert await response.json() == {"name": "suite.png", "subfolder": "suite", "type": "input"}
    empty = aiohttp.FormData({"subfolder": "suite"})
    async with service.http.post(service.url("/upload/image"), data=empty) as response:
        assert response.status == 400


async def test_bodies_that_are_no_prompt(service: Any) -> None:
    status, answer = await _post(service, {"client_id": "x"})
    assert status == 400
    if service.own_socket_ids:
        assert answer == {"error": "no prompt", "node_errors": []}
    else:
        assert answer["error"]["type"] == "no_prompt"
    status, answer = await _post(service, {"prompt": {}})
    assert (status, answer["error"]["type"]) == (400, "prompt_no_outputs")
    async with service.http.post(service.url("/prompt"), data="not json") as response:
        assert response.status == 500
        assert response.content_type == "text/plain"


async def test_commands_answer_empty(service: Any) -> None:
    for path, body in (
        ("/interrupt", {}),
        ("/queue", {"delete": ["unknown"]}),
        ("/history", {"delete": ["unknown"]}),
        ("/free", {"unload_models": True, "free_memory": True}),
    ):
        assert await _post(service, body, path) == (200, "")


async def test_who_chooses_the_ids(service: Any, color: int) -> None:
    asked = uuid.uuid4().hex
    async with _socket(service, asked) as socket:
        kinds, sid = await _greeting(socket)
        assert kinds == (["client_id", "status"] if service.own_socket_ids else ["status"])
        assert (sid == asked) is not service.own_socket_ids
        mine = str(uuid.uuid4())
        body = {"prompt": _graph(color), "client_id": sid, "prompt_id": mine}
        status, answer = await _post(service, body)
        assert status == 200
        assert (answer["prompt_id"] == mine) is not service.own_socket_ids
        await _until_end(socket, answer["prompt_id"])


async def test_the_order_of_frames_and_the_history_before_the_last(
    service: Any, color: int
) -> None:
    async with _socket(service, uuid.uuid4().hex) as socket:
        _, sid = await _greeting(socket)
        body = {"prompt": _graph(color), "client_id": sid, "extra_data": {"job": "j-1"}}
        _, answer = await _post(service, body)
        prompt_id = answer["prompt_id"]
        frames = await _until_end(socket, prompt_id)
        history = await service.get(f"/history/{prompt_id}")
    kinds = [frame["type"] for frame in frames]
    assert kinds[:2] == ["execution_start", "execution_cached"]
    assert kinds[-2:] == ["execution_success", "executing"]
    assert kinds.index("executed") > kinds.index("executing")
    assert ("node_executing" in kinds) is service.own_socket_ids
    assert ("progress_state" in kinds) is not service.own_socket_ids
    executed = next(frame for frame in frames if frame["type"] == "executed")
    entry = history[prompt_id]
    assert entry["outputs"]["2"] == executed["data"]["output"]
    assert entry["prompt"][3]["job"] == "j-1"
    assert entry["status"]["status_str"] == "success"
    assert entry["status"]["completed"] is True
    assert entry["status"]["messages"][-1][0] == "execution_success"
    assert entry["meta"]["2"]["node_id"] == "2"


async def test_rows_of_the_queue(service: Any, job: Any, steps: Any, color: int) -> None:
    slow = {**_graph(color), "3": service.steps("1", 5000, 0.02)}
    slow["2"] = {
        "class_type": "SaveImage",
        "inputs": {"images": ["3", 0], "filename_prefix": "suite/slow"},
    }
    orders: tuple[dict[str, Any], ...] = ({}, {}, {"front": True}, {"number": 1e6})
    ids: list[str] = []
    try:
        for order in orders:
            ids.append((await _post(service, {"prompt": slow, **order}))[1]["prompt_id"])
            # Once the first one runs, nothing can come before it any more.
            while ids[0] not in (await service.queue_ids())[0]:
                continue
        running, waiting = await service.queue_ids()
        assert set(running) | set(waiting) == set(ids)
        assert waiting[0] == ids[2]
        row = (await service.get("/queue"))["queue_pending"][0]
        assert row[0] < 0
        last = (await service.get("/queue"))["queue_pending"][-1]
        assert (last[0], last[1]) == (1e6, ids[3])
        assert row[4] == ["2"]
        assert await service.get("/prompt") == {"exec_info": {"queue_remaining": 4}}
    finally:
        await _post(service, {"clear": True}, "/queue")
        if (await service.queue_ids())[0]:
            await _post(service, {}, "/interrupt")
    connector = await service.connector()
    after = await connector.run(job.of(_graph(color)), steps)
    assert after.outputs


async def test_a_page_of_another_site_is_refused(service: Any) -> None:
    headers = {"Origin": "http://elsewhere.example"}
    async with service.http.get(service.url("/queue"), headers=headers) as response:
        assert response.status == 403


async def test_the_forks_own_messages(service: Any, color: int) -> None:
    if not service.own_socket_ids:
        pytest.skip("only the fork takes prompts over the socket")
    async with _socket(service, "x") as socket:
        await _greeting(socket)

        async def ask(message: Any) -> dict[str, Any]:
            await socket.send(message if isinstance(message, str) else json.dumps(message))
            while True:
                frame: dict[str, Any] = json.loads(await socket.recv())
                if frame["type"] in ("pong", "prompt_queued", "error"):
                    return frame

        assert await ask({"type": "ping"}) == {"type": "pong"}
        queued = await ask({"type": "prompt", "data": {"prompt": _graph(color)}})
        assert queued["type"] == "prompt_queued"
        assert queued["data"]["node_errors"] == {}
        await _until_end(socket, queued["data"]["prompt_id"])
        refused = await ask({"type": "prompt", "data": {"prompt": {}}})
        assert refused["data"]["error"]["type"] == "prompt_no_outputs"
        assert "prompt_id" not in refused["data"]
        # What it can't read it leaves unanswered, and the socket lives on.
        for silent in ("no json", '{"type": "prompt", "data": {}}', '{"type": "unheard"}'):
            await socket.send(silent)
        assert await ask({"type": "ping"}) == {"type": "pong"}


async def test_frames_over_four_mebibytes_cut_the_socket(service: Any) -> None:
    async with _socket(service, uuid.uuid4().hex) as socket:
        await _greeting(socket)
        with contextlib.suppress(ConnectionClosed, OSError):
            await socket.send("x" * (4 * 2**20 + 2**17))
        async with asyncio.timeout(PATIENCE):
            await socket.wait_closed()
        assert socket.close_code in (1006, 1009)
