"""The environment variables of programs that install Python packages.

What pip's variables say (index, find-links, constraints) is said to uv too, and the other way
round for scripts that run pip: one setting reaches every installation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

__all__ = [
    "held_environment",
    "is_offline",
    "package_environment",
    "protected_file",
    "shown_constraints",
    "without_index",
]

_PASSED = (
    *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TMPDIR", "XDG_CACHE_HOME"),
    *("LD_LIBRARY_PATH", "CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "MAX_JOBS", "CUDA_HOME"),
    *("CUDA_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    *("http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY"),
    *("ALL_PROXY", "NO_PROXY", "SSH_AUTH_SOCK"),
)
_PASSED_PREFIXES = ("LC_", "PIP_", "UV_", "GIT_CONFIG_", "GIT_SSL_", "NVIDIA_", "TORCH_")
_ELSEWHERE = frozenset(
    {
        *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_PYTHON", "PIP_DRY_RUN"),
        *("UV_TARGET", "UV_PREFIX", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT"),
        *("UV_TORCH_BACKEND",),
    }
)
"""They would send packages to another place, or bring another torch, than the step says."""

# pip's name, uv's names (newest first), and what stands between several values for uv (pip: a
# blank).
_TWINS = (
    ("PIP_INDEX_URL", ("UV_DEFAULT_INDEX", "UV_INDEX_URL"), " "),
    ("PIP_EXTRA_INDEX_URL", ("UV_INDEX", "UV_EXTRA_INDEX_URL"), " "),
    ("PIP_FIND_LINKS", ("UV_FIND_LINKS",), ","),
    ("PIP_CONSTRAINT", ("UV_CONSTRAINT",), " "),
    ("PIP_CERT", ("SSL_CERT_FILE",), " "),
    ("PIP_TRUSTED_HOST", ("UV_INSECURE_HOST",), " "),
)


def without_index(environ: Mapping[str, str]) -> bool:
    """Whether no index is to be asked, but folders that are named; uv has no variable for it."""
    return _is_on(environ, "PIP_NO_INDEX")


def is_offline(environ: Mapping[str, str]) -> bool:
    """Whether no index can be asked for what is not here already."""
    return without_index(environ) or _is_on(environ, "UV_OFFLINE")


def _is_on(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").lower() not in {"", "0", "false", "no", "off"}


def protected_file(home: Path) -> Path:
    """What may not be moved in the environment of the service in *home*, as constraints."""
    return home / ".machine-lifecycle" / "protected.txt"


def held_environment(home: Path) -> dict[str, str]:
    """Variables for the service itself: a node pack may call pip while it is imported."""
    path = protected_file(home)
    if not path.exists():
        return {}
    held = shown_constraints(path)
    return {"PIP_CONSTRAINT": held, "UV_CONSTRAINT": held, "PIP_NO_INPUT": "1"}


def shown_constraints(path: Path) -> str:
    """A file of constraints as pip and uv take it: they split at blanks, and know no quotes."""
    return str(path) if " " not in str(path) else path.as_uri()


def package_environment(
    environ: Mapping[str, str], *, constraints: Sequence[Path] = (), backend: str = ""
) -> dict[str, str]:
    """The environment for programs that install packages: no secrets, no questions.

    Args:
        environ: The machine's environment.
        constraints: Files with versions that must hold, beside those of the environment.
        backend: Build of torch, in uv's words; empty: whatever the index has.
    """
    env = {
        name: value
        for name, value in environ.items()
        if (name in _PASSED or name.startswith(_PASSED_PREFIXES)) and name not in _ELSEWHERE
    }
    for pip, names, between in _TWINS:
        uv = next((name for name in names if env.get(name)), "")
        if env.get(pip) and not uv:
            env[names[0]] = between.join(env[pip].split())
        elif uv and not env.get(pip):
            env[pip] = " ".join(env[uv].split(between))
    for path in constraints:
        text = shown_constraints(path)
        for name in ("PIP_CONSTRAINT", "UV_CONSTRAINT"):
            env[name] = f"{env.get(name, '')} {text}".strip()
    if backend:
        env["UV_TORCH_BACKEND"] = backend
    return env | {
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "PYTHONUNBUFFERED": "1",
    }
