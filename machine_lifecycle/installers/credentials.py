"""Which secret goes to which host when a file is downloaded, and to no other."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import attrs

__all__ = ["Credentials", "Token"]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@attrs.frozen(kw_only=True)
class Token:
    """The token of one provider.

    Attributes:
        variables: Where it stands in the environment; the first one is told to people.
        hosts: Its own hosts. Those it sends on to (storage elsewhere) need no token, and some
            refuse one.
        endpoint: The variable that names a host to use instead, with a path perhaps; empty: none.
    """

    variables: tuple[str, ...]
    hosts: tuple[str, ...]
    endpoint: str = ""


TOKENS = (
    Token(
        variables=("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"),
        hosts=("huggingface.co", "www.huggingface.co", "hf.co"),
        endpoint="HF_ENDPOINT",
    ),
    Token(
        variables=("CIVITAI_TOKEN", "CIVITAI_API_KEY"),
        hosts=("civitai.com", "www.civitai.com"),
    ),
)


@attrs.frozen
class Credentials:
    """The secrets of one download.

    Attributes:
        url: As the list has it, with a login perhaps.
        environ: The machine's environment, which has the tokens.
    """

    url: str = attrs.field(repr=False)
    environ: Mapping[str, str] = attrs.field(repr=False)

    @property
    def start(self) -> str:
        """Where to ask first: without the login, and at the provider's other endpoint if named."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        text = parts._replace(netloc=host, fragment="").geturl()
        for token in TOKENS:
            endpoint = self.environ.get(token.endpoint, "").rstrip("/")
            if endpoint and parts.scheme == "https" and parts.hostname in token.hosts:
                return endpoint + text.removeprefix(f"https://{host}")
        return text

    def token(self, url: str) -> tuple[str, str]:
        """The variable with the token for an address, and its value; empty: there is none."""
        for token in TOKENS:
            endpoint = self.environ.get(token.endpoint, "")
            own = _origin(url) in {("https", host, 443) for host in token.hosts}
            if own or (endpoint and _origin(url) == _origin(endpoint)):
                values = (self.environ.get(name, "").strip() for name in token.variables)
                return token.variables[0], next(filter(None, values), "")
        return "", ""

    def headers(self, url: str) -> dict[str, str]:
        """What is sent to an address beside the question: a login at most, to its own host.

        A token never over a connection that anybody can read, but for one within this machine.
        """
        login = urlsplit(self.url)
        if login.username is not None and _origin(url) == _origin(self.url):
            words = f"{unquote(login.username)}:{unquote(login.password or '')}"
            return {"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}
        parts = urlsplit(url)
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            return {}
        _, value = self.token(url)
        return {"Authorization": f"Bearer {value}"} if value else {}


def _origin(url: str) -> tuple[str, str | None, int]:
    """Scheme, host and port: what a secret is bound to (RFC 6454)."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"http": 80}.get(parts.scheme, 443)
