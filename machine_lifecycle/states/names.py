"""The vocabulary of a machine's life; the values are the words on the wire, in metrics, in logs."""

from __future__ import annotations

from enum import Enum

__all__ = ["MachineState", "Phase", "Trigger"]


class MachineState(Enum):
    """Where in its life a machine is."""

    STARTING = "starting"
    INSTALLING = "installing"
    CUSTOM_NODES = "custom_nodes"
    PM_GENERATION = "pm_generation"
    LAUNCHING = "launching"
    SERVICES_STARTING = "services_starting"
    WORKERS_STARTING = "workers_starting"
    HEALTH_CHECK = "health_check"
    READY = "ready"
    PROCESSING = "processing"
    FAILED = "failed"
    RESTARTING = "restarting"
    STOPPING = "stopping"
    STOPPED = "stopped"


class Trigger(Enum):
    """What moves a machine from state to state. Past tense: each is a fact, not a wish."""

    PLAN_MADE = "plan_made"
    BASE_INSTALLED = "base_installed"
    NODES_INSTALLED = "nodes_installed"
    PROCESSES_PREPARED = "processes_prepared"
    PROCESSES_LAUNCHED = "processes_launched"
    SERVICES_ONLINE = "services_online"
    WORKERS_CONNECTED = "workers_connected"
    MACHINE_HEALTHY = "machine_healthy"
    JOB_TAKEN = "job_taken"
    JOB_DONE = "job_done"
    FAULTED = "faulted"
    RETRY = "retry"
    GAVE_UP = "gave_up"
    CLEANED_UP = "cleaned_up"
    STOP_REQUESTED = "stop_requested"
    ALL_STOPPED = "all_stopped"


class Phase(Enum):
    """The coarse word for other machines, in status messages."""

    STARTING = "starting"
    READY = "ready"
    SHUTDOWN = "shutdown"
