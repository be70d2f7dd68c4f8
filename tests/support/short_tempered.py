"""A service outside the package, in one file: it serves well, and is given up after two crashes."""

from __future__ import annotations

import sys

from machine_lifecycle import Binding, Command, Ports, RestartPolicy, ServiceDefinition, TcpReady

SERVICE = ServiceDefinition(
    name="short-tempered",
    summary="Serves well, and is given up after two crashes.",
    capabilities=("patience",),
    connector="tests.support.fake_connector:FakeConnector",
    process=lambda instance: Command(
        argv=(sys.executable, "-m", "http.server", "--bind", instance.host, str(instance.port))
    ),
    binding=Binding.SHARED,
    ports=Ports(base=18970),
    readiness=(TcpReady(),),
    restart=RestartPolicy(backoff=0.05, backoff_max=0.05, budget=2, window=60),
)
