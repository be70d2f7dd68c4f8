"""Credentials that stand in addresses: found and masked wherever text holds one."""

from __future__ import annotations

import re

__all__ = ["without_logins", "without_query_secrets"]

_LOGIN = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?P<login>[^/\s]+)@", re.IGNORECASE)
_IN_QUERY = re.compile(
    r"(?P<name>[?&;][^=&;#\s]*(?:token|key|secret|passw|credential|auth(?!or)|signature|\bsig\b)"
    r"[^=&;#\s]*)=(?!\*\*\*)[^&;#\s\"'<>]+",
    re.IGNORECASE,
)
"""Parameters by which hosts take credentials: GitLab's ``private_token``, Civitai's ``token``, and
the signatures of addresses that are open to who has them (S3, Google Cloud, Azure: ``sig``).
"""


def without_logins(text: str) -> str:
    """A text without logins in addresses; the name alone is part of where an ssh host is."""

    def hidden(found: re.Match[str]) -> str:
        name = found["scheme"].lower().endswith("ssh") and ":" not in found["login"]
        return found[0] if name else f"{found['scheme']}://***@"

    return _LOGIN.sub(hidden, text)


def without_query_secrets(text: str) -> str:
    """A text without the values of those parameters of addresses that are named like secrets."""
    return _IN_QUERY.sub(r"\g<name>=***", text)
