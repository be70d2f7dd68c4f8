"""Secrets go to the hosts they belong to, and nowhere else, whatever a server sends on to."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from pathlib import Path

import attrs
import pytest

from machine_lifecycle.installers.credentials import Credentials
from machine_lifecycle.installers.download_errors import DownloadMissing, DownloadRefused
from machine_lifecycle.installers.downloading import Downloader
from machine_lifecycle.installers.partial_file import File
from machine_lifecycle.installers.transfer import Patience
from tests.support.file_server import FileServer, serving_files

DATA = b"model" * 1000
HUB = "https://huggingface.co/owner/name/resolve/main/m.safetensors"
TOKENS = {"HF_TOKEN": "hf-s3cret", "CIVITAI_TOKEN": "cv-s3cret"}


@attrs.frozen
class Two:
    """A provider, and the storage that it sends on to: another host."""

    hub: FileServer
    storage: FileServer
    path: Path

    async def bring(self, url: str, **environ: str) -> None:
        made = Downloader({**TOKENS, **environ}, Patience(first=0.001))
        await made.bring(File(url=url), self.path, lambda _: None)

    def sent(self, server: FileServer) -> list[str]:
        return [headers.get("Authorization", "") for _, headers in server.asked]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[Two]:
    async with serving_files() as hub, serving_files("127.0.0.2") as storage:
        yield Two(hub, storage, tmp_path / "m")


async def test_a_token_goes_to_its_own_host_and_not_on_with_a_redirect(two: Two) -> None:
    path = "owner/name/resolve/main/m.safetensors"
    there = two.storage.url("bucket/m?Signature=abc%2Fdef")
    two.hub.add(path, b"", answers=[(302, {"Location": there})])
    two.storage.add("bucket/m", DATA)
    await two.bring(HUB, HF_ENDPOINT=two.hub.url("").rstrip("/"))
    assert two.sent(two.hub) == ["Bearer hf-s3cret"]
    assert two.sent(two.storage) == [""]
    assert all("Cookie" not in headers for _, headers in two.storage.asked)
    assert two.path.read_bytes() == DATA


async def test_a_redirect_within_the_host_keeps_it(two: Two) -> None:
    path = "owner/name/resolve/main/m.safetensors"
    two.hub.add(path, b"", answers=[(307, {"Location": "/moved"})])
    two.hub.add("moved", DATA, login="Bearer hf-s3cret")
    await two.bring(HUB, HF_ENDPOINT=two.hub.url(""))
    assert two.sent(two.hub) == ["Bearer hf-s3cret"] * 2


async def test_no_token_for_other_hosts(two: Two) -> None:
    two.storage.add("m", DATA)
    await two.bring(two.storage.url("m"))
    assert two.sent(two.storage) == [""]


async def test_a_login_in_the_address_becomes_a_header_for_that_host_alone(two: Two) -> None:
    login = "Basic " + base64.b64encode(b"me:p@ss").decode()
    two.hub.add("m", DATA, login=login)
    url = two.hub.url("m").replace("://", "://me:p%40ss@")
    await two.bring(url)
    two.hub.files["m"].answers = [(302, {"Location": two.storage.url("m")})]
    two.storage.add("m", DATA)
    two.path.unlink()
    await two.bring(url)
    assert two.sent(two.storage) == [""]
    with pytest.raises(DownloadRefused) as caught:
        await two.bring(two.hub.url("m").replace("://", "://me:wr0ng@") + "?key=s3cret")
    assert "wr0ng" not in str(caught.value)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("location", ["", "ftp://127.0.0.1/m", "data:,m"])
async def test_a_redirect_to_nowhere(two: Two, location: str) -> None:
    two.hub.add("m", DATA, answers=[(302, {"Location": location})])
    with pytest.raises(DownloadMissing, match="no address"):
        await two.bring(two.hub.url("m"))


async def test_a_login_of_a_redirect_is_not_told(two: Two) -> None:
    there = two.storage.url("gone").replace("://", "://me:s3cret@")
    two.hub.add("m", DATA, answers=[(302, {"Location": there})])
    with pytest.raises(DownloadMissing) as raised:
        await two.bring(two.hub.url("m"))
    assert "127.0.0.2" in str(raised.value)
    assert "s3cret" not in str(raised.value)


async def test_redirects_in_a_circle_end(two: Two) -> None:
    two.hub.add("m", DATA, answers=[(302, {"Location": "/m"})] * 50)
    with pytest.raises(DownloadMissing, match="more than 10 times"):
        await two.bring(two.hub.url("m"))


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://huggingface.co/m", "hf-s3cret"),
        ("https://hf.co/m", "hf-s3cret"),
        ("https://civitai.com/api/download/models/1", "cv-s3cret"),
        ("http://huggingface.co/m", ""),
        ("https://huggingface.co:8443/m", ""),
        ("https://huggingface.co.example.org/m", ""),
        ("https://cdn-lfs.huggingface.co/m", ""),
        ("https://example.org/huggingface.co/m", ""),
        ("https://huggingface.co@example.org/m", ""),
    ],
)
def test_which_token_is_sent_where(url: str, wanted: str) -> None:
    sent = Credentials(url, TOKENS).headers(url).get("Authorization", "")
    assert sent.startswith("Bearer") == bool(wanted)
    assert wanted in sent


def test_secrets_are_in_no_text_of_it() -> None:
    assert "s3cret" not in repr(Credentials("https://me:s3cret@example.org/m", TOKENS))
    assert "s3cret" not in repr(File(url="https://me:s3cret@example.org/m?token=s3cret"))
