"""Which names say that a value is a secret, and credentials that stand in addresses."""

from __future__ import annotations

import re

__all__ = [
    "MASK",
    "names_secret",
    "without_credentials",
    "without_logins",
    "without_query_secrets",
]

MASK = "***"
"""Stands where a secret stood."""
_NAMES = (
    r"(?<!git_config_)key|token(?!iz)|secret|passw|passphrase|(?<=[_-])pwd\b|credential"
    r"|auth(?!or|_sock)|signature|(?<![a-z])sig(?![a-z])|redis_url"
)
"""Parts of names of secrets. In addresses those are, beside others, GitLab's ``private_token``,
Civitai's ``token``, and the signatures of what is open to who has them (S3, Google Cloud, Azure).
"""
_NAME = re.compile(_NAMES, re.IGNORECASE)
# Both take time in proportion to the text, whatever that is: programs write lines of megabytes. No
# match begins within a word that might be a scheme, and no name is looked through twice.
_LOGIN = re.compile(
    r"(?<![a-z0-9+.-])(?P<scheme>[a-z0-9+.-]+)://(?P<login>[^/\s]+)@", re.IGNORECASE
)
_IN_QUERY = re.compile(
    r"(?P<name>[?&;](?=[^=?&;#\s]*+=)"
    rf"(?>[^=?&;#\s]*(?:{_NAMES})[^=?&;#\s]*))=(?!\*{{3}})[^&;#\s\"'<>]+",
    re.IGNORECASE,
)


def names_secret(name: str) -> bool:
    """Whether a variable, an option or a parameter of this name holds a secret."""
    return _NAME.search(name) is not None


def without_credentials(text: str) -> str:
    """A text without credentials in addresses, wherever those stand in it."""
    return without_query_secrets(without_logins(text))


def without_logins(text: str) -> str:
    """A text without logins in addresses; the name alone is part of where an ssh host is."""

    def hidden(found: re.Match[str]) -> str:
        name = found["scheme"].lower().endswith("ssh") and ":" not in found["login"]
        return found[0] if name else f"{found['scheme']}://{MASK}@"

    return _LOGIN.sub(hidden, text)


def without_query_secrets(text: str) -> str:
    """A text without the values of those parameters of addresses that are named like secrets."""
    return _IN_QUERY.sub(rf"\g<name>={MASK}", text)
