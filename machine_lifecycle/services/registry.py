"""Every service there is: ours, those named by ``module:attribute``, those of plug-ins."""

from __future__ import annotations

import difflib
import importlib.metadata
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import attrs

from machine_lifecycle.installers.errors import InstallerBroken
from machine_lifecycle.jobs.worker_errors import ConnectorBroken
from machine_lifecycle.model.bundle import BundledConnector
from machine_lifecycle.model.catalogue import NO_INSTALLER, ServiceEntry
from machine_lifecycle.model.offers import Offer
from machine_lifecycle.model.services import ServiceDefinition
from machine_lifecycle.services import comfyui, comfyui_remote, simulation
from machine_lifecycle.services.errors import (
    ModuleMissing,
    PluginClash,
    ServiceBroken,
    ServiceUnknown,
)
from machine_lifecycle.services.plugins import (
    folder_of,
    is_there,
    load_reference,
    offered,
    package_of,
)

__all__ = ["BUILTINS", "Registry", "ServiceOrigin"]

BUILTINS = (simulation.SERVICE, comfyui.SERVICE, comfyui_remote.SERVICE)
BUNDLE = "bundle:"
"""Stands before a connector's name that is to come from the worker bundle, whoever else has it."""
_CLOSE = 0.8
"""How alike a name must be to be taken for what was meant: more than ``Connector`` at the end of
both makes them."""


@attrs.frozen(kw_only=True)
class ServiceOrigin:
    """One thing that can be asked for, and where it comes from. Plug-ins are not imported.

    Attributes:
        offer: What it is.
        distribution: Package that provides it.
        reference: ``module:attribute`` of the definition.
        definition: ``None`` for a plug-in, which is loaded when it is asked for.
    """

    name: str
    distribution: str
    version: str
    reference: str
    definition: ServiceDefinition | None = None
    offer: Offer = Offer.SERVICE


def _installed(offer: Offer) -> Iterable[EntryPoint]:
    return entry_points(group=offer.group)


@attrs.frozen(kw_only=True)
class Registry:
    """Finds services by name. Names are case-sensitive.

    Attributes:
        definitions: Objects given in code; they come first.
        plugins: Returns the entry points of one kind; called only for names that nobody of us
            has.
        bundled: Connectors of the worker bundle; they come last, unless named ``bundle:NAME``.
    """

    definitions: tuple[ServiceDefinition, ...] = ()
    plugins: Callable[[Offer], Iterable[EntryPoint]] = _installed
    bundled: tuple[BundledConnector, ...] = ()

    def find(self, name: str, *, kind: str = "service") -> ServiceDefinition:
        """The service of this name or alias, or at this ``module:attribute``.

        Raises:
            ServiceUnknown: Nobody has it.
            PluginClash: Two packages have it.
            ServiceBroken: It is there, but can't be loaded.
        """
        given = _by_name(self.definitions, name)
        if given is not None:
            return given
        if ":" in name:
            return _definition(load_reference(name, "by reference"), name, "by reference")
        builtin = _by_name(BUILTINS, name)
        if builtin is not None:
            return builtin
        found = offered(name, self.plugins(Offer.SERVICE))
        if found is None:
            raise self._unknown(name, kind)
        origin = package_of(found)
        return _definition(load_reference(found.value, origin), found.value, origin)

    def lookup(self, entry: ServiceEntry) -> ServiceDefinition:
        """The definition behind an entry of the service mapping, with what the entry changes.

        The connector decides; an entry without one goes by its own name.

        Raises:
            ServiceUnknown: Nobody has its connector or installer.
            PluginClash: Two packages have it.
            ServiceBroken: A reference in it can't be followed.
            ConnectorBroken: There is no module of its connector's name.
            InstallerBroken: Nor of its installer's.
            ModuleMissing: It needs a module that is not installed.
        """
        if entry.connector.startswith(BUNDLE):
            definition = self._with_connector(self._from_bundle(entry))
        elif ":" in entry.connector:
            definition = self._with_connector(entry)
        elif entry.connector:
            try:
                definition = self.find(entry.connector, kind="connector")
            except ServiceUnknown:
                definition = self._with_connector(self._elsewhere(entry))
        else:
            definition = self.find(entry.name)
        if entry.external:
            definition = attrs.evolve(definition, process=None, installer="", ports=None)
        else:
            definition = attrs.evolve(definition, installer=self._installer(entry, definition))
        self._look_for(definition)
        return definition

    def _look_for(self, definition: ServiceDefinition) -> None:
        """Find what workers and installation will import, before anything is installed."""
        connector, installer = definition.connector, definition.installer
        of_bundle = any(one.reference == connector for one in self.bundled)
        if not of_bundle and not is_there(connector):
            raise ConnectorBroken(
                reference=connector, reason="there is no such module", folder=folder_of(connector)
            )
        if installer and not is_there(installer):
            raise InstallerBroken(
                installer=installer, problem="there is no such module", folder=folder_of(installer)
            )
        for module, package in definition.modules if definition.process else ():
            if not is_there(module):
                raise ModuleMissing(service=definition.name, module=module, package=package)

    def origins(self) -> tuple[ServiceOrigin, ...]:
        """Everything that can be asked for, in order: services that are given, built in, of
        packages; then what else packages offer.
        """
        ours = importlib.metadata.version("machine-lifecycle")
        given = tuple(_origin(one, "given in code", "") for one in self.definitions)
        builtin = tuple(_origin(one, "machine-lifecycle", ours) for one in BUILTINS)
        of_packages = tuple(
            ServiceOrigin(
                name=entry.name,
                distribution=entry.dist.name if entry.dist else "?",
                version=entry.dist.version if entry.dist else "",
                reference=entry.value,
                offer=offer,
            )
            for offer in Offer
            for entry in sorted(self.plugins(offer), key=lambda one: one.name)
        )
        return (*given, *builtin, *of_packages)

    def _elsewhere(self, entry: ServiceEntry) -> ServiceEntry:
        """With the connector of a package, else of the worker bundle.

        Raises:
            ServiceUnknown: Neither has it; with what there is.
        """
        entries = tuple(self.plugins(Offer.CONNECTOR))
        if found := offered(entry.connector, entries):
            return attrs.evolve(entry, connector=found.value)
        if any(one.name == entry.connector for one in self.bundled):
            return self._from_bundle(entry)
        raise self._unknown(entry.connector, "connector", entries)

    def _from_bundle(self, entry: ServiceEntry) -> ServiceEntry:
        name = entry.connector.removeprefix(BUNDLE)
        found = [one for one in self.bundled if one.name == name]
        if len(found) > 1:
            packages = tuple(f"{one.distribution} {one.version}" for one in found)
            raise PluginClash(name=name, distributions=packages)
        if not found:
            known = tuple(sorted(one.name for one in self.bundled)) or ("none",)
            close = difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)
            raise ServiceUnknown(
                kind="connector of the worker bundle",
                name=name,
                known=known,
                close=f"{BUNDLE}{close[0]}" if close else "",
            )
        return attrs.evolve(entry, connector=found[0].reference)

    def _with_connector(self, entry: ServiceEntry) -> ServiceDefinition:
        try:
            known = self.find(entry.name)
        except ServiceUnknown:
            if not entry.external:
                raise
            # A service that runs elsewhere needs no more than a connector.
            return ServiceDefinition(
                name=entry.name,
                summary=f"{entry.name}, which runs elsewhere.",
                capabilities=(entry.name,),
                connector=entry.connector,
            )
        return attrs.evolve(known, connector=entry.connector)

    def _installer(self, entry: ServiceEntry, definition: ServiceDefinition) -> str:
        if not entry.installer:
            return definition.installer
        if entry.installer == NO_INSTALLER:
            return ""
        if ":" in entry.installer:
            return entry.installer
        try:
            return self.find(entry.installer, kind="installer").installer
        except ServiceUnknown:
            entries = tuple(self.plugins(Offer.INSTALLER))
            if found := offered(entry.installer, entries):
                return found.value
            raise self._unknown(entry.installer, "installer", entries) from None

    def _unknown(self, name: str, kind: str, offers: Iterable[EntryPoint] = ()) -> ServiceUnknown:
        names = [one.name for one in (*self.definitions, *BUILTINS)]
        names += [entry.name for entry in (*self.plugins(Offer.SERVICE), *offers)]
        aliases = [alias for one in (*self.definitions, *BUILTINS) for alias in one.aliases]
        known = names if kind == "service" else [*aliases, *names]
        close = difflib.get_close_matches(name, [*names, *aliases], n=1, cutoff=_CLOSE)
        return ServiceUnknown(
            kind=kind,
            name=name,
            known=tuple(dict.fromkeys(known)),
            close=close[0] if close else "",
        )


def _by_name(definitions: Iterable[ServiceDefinition], name: str) -> ServiceDefinition | None:
    return next((one for one in definitions if name == one.name or name in one.aliases), None)


def _definition(found: Any, reference: str, origin: str) -> ServiceDefinition:
    if isinstance(found, ServiceDefinition):
        return found
    problem = f"is a {type(found).__name__}, not a ServiceDefinition"
    raise ServiceBroken(reference=reference, origin=origin, problem=problem)


def _origin(definition: ServiceDefinition, package: str, version: str) -> ServiceOrigin:
    return ServiceOrigin(
        name=definition.name,
        distribution=package,
        version=version,
        reference=definition.connector,
        definition=definition,
    )
