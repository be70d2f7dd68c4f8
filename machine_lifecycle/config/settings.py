"""Text to ``Settings``: the environment over ``.env`` over the defaults, all problems at once."""

from __future__ import annotations

import difflib
import io
from collections.abc import Mapping
from typing import Any

import attrs
from dotenv.parser import parse_stream

from machine_lifecycle.config.errors import SettingInvalid, raise_problems
from machine_lifecycle.config.expansion import expand
from machine_lifecycle.config.values import (
    Unusable,
    check,
    convert,
    field_types,
    parse_limits,
    text_of,
)
from machine_lifecycle.model.redaction import MASK, without_credentials
from machine_lifecycle.model.redis_url import RedisUrl
from machine_lifecycle.model.settings import SettingInfo, Settings, setting_info

__all__ = [
    "LoadedSettings",
    "Origin",
    "load_settings",
    "parse_limits",
    "secret_values",
    "settings_env",
    "shown",
]


_OURS = (
    *("MACHINE_", "COMFYUI_", "WORKER", "SIMULATION_", "HUB_REDIS", "WORKSPACE_", "MOCK_GPU"),
    "MODELS_",
)

# Variables with our prefixes that are no settings: the service mapping and the workers read them.
_ALSO_KNOWN = frozenset(
    {
        "COMFYUI_ENABLE_CUSTOM_NODES",
        "COMFYUI_HOST",
        "COMFYUI_INSTALL_TIMEOUT",
        "COMFYUI_INSTANCES_PER_GPU",
        "COMFYUI_JOB_TIMEOUT_MINUTES",
        "COMFYUI_MODELS_PATH",
        "COMFYUI_PORT",
        "COMFYUI_PORT_INCREMENT",
        "COMFYUI_RESOURCE_BINDING",
        "MACHINE_CONTROL_SOCKET",
        "MACHINE_LAST_WORDS",
        "SIMULATION_GPU_MEMORY_MIB",
        "SIMULATION_GPU_NAME",
        "SIMULATION_HOST",
        "SIMULATION_HUNG_AFTER",
        "SIMULATION_INSTANCES_PER_MACHINE",
        "SIMULATION_JOB_TIMEOUT_MINUTES",
        "SIMULATION_PORT",
        "SIMULATION_PORT_INCREMENT",
        "SIMULATION_WS_PORT_INCREMENT",
        "WORKER_GPU_MEMORY_GB",
        "WORKER_GPU_MODEL",
        "WORKER_ID",
        "WORKER_PROCESS",
        "WORKER_RAM_GB",
        "WORKER_ROUTES",
    }
)

# Where an empty text says something of its own: an empty CUDA_VISIBLE_DEVICES hides every GPU.
_EMPTY_COUNTS = frozenset({"cuda_visible_devices"})


@attrs.frozen(kw_only=True)
class Origin:
    """Where a setting's value was written.

    Attributes:
        kind: ``default``, ``environment`` or ``.env``.
        variable: The name that was used; an older one of the setting's, perhaps.
        file: The ``.env`` file, or empty.
        line: Line in it, from 1; 0 elsewhere.
        older: Whether the name is an older one.
    """

    kind: str
    variable: str
    file: str = ""
    line: int = 0
    older: bool = False

    @property
    def place(self) -> str:
        """For messages: ``the environment``, ``.env line 3``."""
        if self.kind == "default":
            return "the defaults"
        return f"{self.file} line {self.line}" if self.line else "the environment"

    def __str__(self) -> str:
        words = f"{self.file} line {self.line}" if self.line else self.kind
        return f"{words} (as {self.variable})" if self.older else words


@attrs.frozen(kw_only=True)
class LoadedSettings:
    """Settings, and how they came about.

    Attributes:
        settings: The values.
        origins: By field: where each was written.
        warnings: What may not be meant as written, such as a misspelt variable.
    """

    settings: Settings
    origins: Mapping[str, Origin]
    warnings: tuple[str, ...] = ()
    variables: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    """The environment over the ``.env`` file, for ``${VAR}`` elsewhere. Holds secrets."""


@attrs.frozen(kw_only=True)
class _Written:
    text: str
    origin: Origin


def load_settings(
    environ: Mapping[str, str], dotenv_text: str | None = None, dotenv_name: str = ".env"
) -> LoadedSettings:
    """Read the settings.

    An empty variable counts as unset (containers pass such), but for ``CUDA_VISIBLE_DEVICES``,
    where it hides every GPU. ``${VAR}`` in the ``.env`` file is replaced from the environment and
    the lines above it.

    Args:
        environ: The environment.
        dotenv_text: Contents of the ``.env`` file; ``None`` if there is none.
        dotenv_name: Its name, for messages.

    Raises:
        Problems: Every setting that can't be used.
    """
    written, errors = _read_dotenv(dotenv_text or "", environ, dotenv_name)
    values: dict[str, Any] = {}
    origins: dict[str, Origin] = {}
    warnings: list[str] = []
    hints = field_types()
    home = environ.get("HOME", "")
    for info in setting_info():
        found = _find(info, environ, written, warnings)
        if found is None:
            origins[info.field] = Origin(kind="default", variable=info.env[0])
            continue
        origins[info.field] = found.origin
        try:
            value = convert(found.text, hints[info.field], home)
            values[info.field] = check(info.field, value)
        except Unusable as unusable:
            errors.append(_invalid(info, found, unusable))
    errors += _across(values, origins)
    raise_problems("Settings", errors)
    warnings += _misspelt({**dict.fromkeys(written, dotenv_name), **_all_environment(environ)})
    return LoadedSettings(
        settings=Settings(**values),
        origins=origins,
        warnings=tuple(warnings),
        variables={key: one.text for key, one in written.items()} | dict(environ),
    )


def _all_environment(environ: Mapping[str, str]) -> dict[str, str]:
    return dict.fromkeys(environ, "the environment")


def _read_dotenv(
    text: str, environ: Mapping[str, str], name: str
) -> tuple[dict[str, _Written], list[SettingInvalid]]:
    known = {variable for info in setting_info() for variable in info.env}
    written: dict[str, _Written] = {}
    errors: list[SettingInvalid] = []
    for binding in parse_stream(io.StringIO(text)):
        # The parser counts a binding's line from the blank lines above it.
        lead = len(binding.original.string) - len(binding.original.string.lstrip())
        line = binding.original.line + binding.original.string[:lead].count("\n")
        source = Origin(kind=".env", variable=binding.key or "", file=name, line=line)
        if binding.error:
            shape = "not `NAME=value`"
            errors.append(_problem("a line", source, MASK, shape, "LOG_LEVEL=info"))
            continue
        if binding.key is None or binding.value is None:
            continue
        above = {key: one.text for key, one in written.items()} | dict(environ)
        expansion = expand(binding.value, above)
        if expansion.problems and binding.key in known:
            errors += [
                _problem(binding.key, source, MASK, problem, "") for problem in expansion.problems
            ]
        written[binding.key] = _Written(text=expansion.text, origin=source)
    return written, errors


def _find(
    info: SettingInfo,
    environ: Mapping[str, str],
    dotenv: Mapping[str, _Written],
    warnings: list[str],
) -> _Written | None:
    empty_counts = info.field in _EMPTY_COUNTS
    found: list[_Written] = []
    for variable in info.env:
        text = environ.get(variable)
        if text is not None and (text.strip() or empty_counts):
            origin = Origin(kind="environment", variable=variable, older=variable != info.env[0])
            found.append(_Written(text=text, origin=origin))
    for variable in info.env:
        one = dotenv.get(variable)
        if one is not None and (one.text.strip() or empty_counts):
            older = variable != info.env[0]
            found.append(attrs.evolve(one, origin=attrs.evolve(one.origin, older=older)))
    if not found:
        return None
    first = found[0]
    warnings.extend(
        f"{other.origin.variable} in {other.origin.place} differs from "
        f"{first.origin.variable}, which counts"
        for other in found[1:]
        if other.origin.kind == first.origin.kind and other.text.strip() != first.text.strip()
    )
    return first


def _problem(
    variable: str, origin: Origin, value: str, problem: str, example: str
) -> SettingInvalid:
    return SettingInvalid(
        variable=variable, written=origin.place, value=value, problem=problem, example=example
    )


def _invalid(info: SettingInfo, found: _Written, unusable: Unusable) -> SettingInvalid:
    value = MASK if info.secret else found.text
    example = unusable.example or text_of(getattr(Settings(), info.field))
    return _problem(found.origin.variable, found.origin, value, str(unusable), example)


def _across(values: Mapping[str, Any], origins: Mapping[str, Origin]) -> list[SettingInvalid]:
    """Settings that can be used one by one, but not together."""
    defaults = Settings()
    drain = values.get("drain_budget", defaults.drain_budget)
    stop = values.get("stop_budget", defaults.stop_budget)
    if drain < stop or "drain_budget" not in values:
        # The default share shrinks with a short stop budget by itself.
        return []
    origin = origins["drain_budget"]
    problem = f"must be below MACHINE_STOP_TIMEOUT, which is {stop:g}"
    return [_problem(origin.variable, origin, f"{drain:g}", problem, f"{stop / 3:.1f}")]


def _misspelt(names: Mapping[str, str]) -> list[str]:
    known = {variable for info in setting_info() for variable in info.env} | _ALSO_KNOWN
    warnings = []
    for name, place in names.items():
        if name in known or not name.startswith(_OURS):
            continue
        plain = name.removeprefix("MACHINE_")
        close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.85)
        if meant := plain if plain in known else next(iter(close), ""):
            warnings.append(f"{name} in {place} is not read; did you mean {meant}?")
    return warnings


def settings_env(settings: Settings, *, defaults: bool = False) -> dict[str, str]:
    """The settings as variables, by the first name of each, without secrets.

    Args:
        settings: The values.
        defaults: Also those that have their default value.
    """
    plain = Settings()
    return {
        info.env[0]: text_of(getattr(settings, info.field))
        for info in setting_info()
        if not info.secret
        and getattr(settings, info.field) is not None
        and (defaults or getattr(settings, info.field) != getattr(plain, info.field))
    }


def secret_values(settings: Settings) -> dict[str, str]:
    """The secrets that are set, by the first name of each. For the spawning of processes only."""
    return {
        info.env[0]: text_of(getattr(settings, info.field))
        for info in setting_info()
        if info.secret and getattr(settings, info.field)
    }


def shown(settings: Settings) -> dict[str, str]:
    """Every setting as text for people, by field; secrets masked, URLs without their password."""
    return {
        info.field: _masked(info, text_of(getattr(settings, info.field))) for info in setting_info()
    }


def _masked(info: SettingInfo, text: str) -> str:
    if not info.secret or not text:
        return without_credentials(text)  # a repository's address may hold a token
    if info.field != "redis_url":
        return MASK
    return RedisUrl.parse(text).masked
