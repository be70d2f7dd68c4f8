"""Making a worker out of its configuration."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from machine_lifecycle.jobs.warming import Warmer
from machine_lifecycle.jobs.worker import Worker
from machine_lifecycle.jobs.worker_config import WorkerConfig, load_connector
from machine_lifecycle.jobs.worker_services import WorkerServices
from machine_lifecycle.system.redis import connect

__all__ = ["open_worker"]


@asynccontextmanager
async def open_worker(config: WorkerConfig) -> AsyncIterator[Worker]:
    """A worker with its connectors and its connection to Redis, which is closed at the end.

    Raises:
        ConnectorBroken: A connector can't be loaded.
    """
    connectors = {
        service: load_connector(reference, config.environ)
        for service, reference in config.services.items()
    }
    asks = {route.asks: route.service for route in config.routes}
    redis = connect(config.redis_url)
    try:
        services = WorkerServices(
            connectors,
            asks,
            concurrency=config.concurrency,
            warmer=Warmer(config.warm_ups, config.warm),
        )
        yield Worker(config, redis, services)
    finally:
        await redis.aclose()
