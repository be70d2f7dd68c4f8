"""What is told of secrets: nothing, by whatever name they go and wherever they stand."""

from __future__ import annotations

import pytest

from machine_lifecycle.model.redaction import names_secret, without_credentials


@pytest.mark.parametrize(
    "name",
    [
        *("HF_TOKEN", "OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "WANDB_KEY", "DB_PASSWD", "key"),
        *("PGPASSWORD", "MYSQL_PWD", "GIT_CREDENTIALS", "BASIC_AUTH", "SIG", "X-Amz-Signature"),
        *("HUB_REDIS_URL", "SSH_PASSPHRASE", "private_token", "AccessKeyId"),
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert names_secret(name)
    assert (
        without_credentials(f"https://h/a?x=1&{name}=s3cret#f") == f"https://h/a?x=1&{name}=***#f"
    )


@pytest.mark.parametrize(
    "name",
    [
        *("PATH", "PWD", "OLDPWD", "SSH_AUTH_SOCK", "GIT_CONFIG_KEY_0", "GIT_AUTHOR_NAME"),
        *("DESIGN", "SIGNAL", "WORKERS", "TOKENIZERS_PARALLELISM"),
    ],
)
def test_names_of_others(name: str) -> None:
    assert not names_secret(name)
    assert without_credentials(f"https://h/a?{name}=x") == f"https://h/a?{name}=x"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("clone https://me:pw@h/a.git failed", "clone https://***@h/a.git failed"),
        ("git+https://pw@h/a and s3://k:pw@b", "git+https://***@h/a and s3://***@b"),
        ("ssh://git@h/a", "ssh://git@h/a"),
        ("ssh://git:pw@h/a", "ssh://***@h/a"),
        ("'https://h/a?token=t'", "'https://h/a?token=***'"),
        ("9https://me:pw@h", "9https://***@h"),
        ("https://h/?to=https://g/?token=t", "https://h/?to=https://g/?token=***"),
        ("https://h/?token=&key=k", "https://h/?token=&key=***"),
        ("me@example.org", "me@example.org"),
    ],
)
def test_credentials_in_addresses(text: str, shown: str) -> None:
    assert without_credentials(text) == shown
    assert without_credentials(shown) == shown, "what is masked stays as it is"


@pytest.mark.parametrize(
    "word", ["x", "?", "&a", "key", "a.", "=", "@", "://", "https://", "?key", "x=", "***"]
)
def test_a_line_may_be_long(word: str) -> None:
    """Time grows with the text alone: with its square, this would take hours."""
    text = word * (2_000_000 // len(word))
    shown = without_credentials(f"https://me:pw@h/?token=t {text} https://me:pw@h/?token=t")
    assert shown == f"https://***@h/?token=*** {text} https://***@h/?token=***"
