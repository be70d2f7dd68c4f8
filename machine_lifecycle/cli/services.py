"""``services``: every service that can be named, and where it comes from."""

from __future__ import annotations

import click

from machine_lifecycle.cli.output import emit_json, table

__all__ = ["services"]


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def services(as_json: bool) -> None:  # noqa: FBT001 - click
    """List the services that can be run, built in and of installed packages, and what else those
    packages offer: installers, connectors, observers, gates.

    Plug-ins are listed without being imported.
    """
    from machine_lifecycle.services.registry import Registry  # noqa: PLC0415 - only when asked for

    origins = Registry().origins()
    if as_json:
        emit_json(
            [
                {
                    "name": one.name,
                    "kind": one.offer.value,
                    "package": one.distribution,
                    "version": one.version,
                    "reference": one.reference,
                    "summary": one.definition.summary if one.definition else "",
                    "capabilities": list(one.definition.capabilities) if one.definition else [],
                    "binding": one.definition.binding.value if one.definition else "",
                    "aliases": list(one.definition.aliases) if one.definition else [],
                }
                for one in origins
            ]
        )
        return
    table(
        ("name", "kind", "bound to", "package", "what it is"),
        [
            (
                one.name,
                one.offer.value,
                one.definition.binding.value if one.definition else "",
                f"{one.distribution} {one.version}".strip(),
                one.definition.summary if one.definition else one.reference,
            )
            for one in origins
        ],
    )
