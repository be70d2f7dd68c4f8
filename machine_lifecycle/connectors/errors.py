"""What can go wrong between a worker and its service."""

from __future__ import annotations

from typing import ClassVar

import attrs

from machine_lifecycle.errors import ConfigurationError, LifecycleError, Remedy
from machine_lifecycle.model.jobs import NodeFailure

__all__ = [
    "BadPayload",
    "BadServiceAddress",
    "GpuBroken",
    "GpuFault",
    "NodeFailed",
    "NodeFailedForGood",
    "PromptInterrupted",
    "PromptLost",
    "PromptRejected",
    "PromptTimeout",
    "ServiceHung",
    "ServiceOutOfMemory",
    "ServiceUnreachable",
]


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceUnreachable(LifecycleError):
    """The service does not answer.

    Attributes:
        url: Where it should be, without secrets.
        reason: What the system said.
    """

    code: ClassVar[str] = "service-unreachable"

    url: str
    reason: str

    @property
    def summary(self) -> str:
        """Where, and why not."""
        return f"The service at {self.url} can't be reached: {self.reason}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Look whether it runs, and ask it by hand."""
        return (
            Remedy(text="See whether the service runs", command="machine-lifecycle ps"),
            Remedy(text="Ask it by hand", command=f"curl -sS {self.url}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class BadServiceAddress(ConfigurationError):
    """A connector was asked for, but nothing useful says where its service is.

    Attributes:
        variable: The environment variable that should say it.
        value: What it says; empty when it is not set.
        example: What it could say.
    """

    code: ClassVar[str] = "bad-service-address"

    variable: str
    value: str = ""
    example: str = "comfy.example.com"

    @property
    def summary(self) -> str:
        """Which variable, and what is wrong."""
        if not self.value:
            return f"{self.variable} is not set: nothing says where the service is"
        return f"{self.variable} is {self.value!r}, which is of no use"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Set it."""
        return (Remedy(text="Set it", command=f"export {self.variable}={self.example}"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class BadPayload(LifecycleError):
    """The job's payload is nothing this service could run.

    Attributes:
        problem: What is wrong with it.
    """

    code: ClassVar[str] = "bad-payload"
    recoverable: ClassVar[bool] = False

    problem: str

    @property
    def summary(self) -> str:
        """What is wrong."""
        return f"The job's payload can't be used: {self.problem}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """The forms that are taken."""
        return (
            Remedy(
                text="Send the graph in API form, by itself or as the field `workflow` or `prompt`"
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PromptRejected(LifecycleError):
    """The service refused the graph before running any of it.

    Attributes:
        status: HTTP status.
        kind: The service's name for the reason, or empty.
        message: What it said of the whole graph.
        failures: What it said of single nodes.
        recoverable: False for a refused graph: the same graph is refused again. True when the
            service itself was at fault, which a status from 500 on says.
    """

    code: ClassVar[str] = "prompt-rejected"

    status: int
    kind: str = ""
    message: str = ""
    failures: tuple[NodeFailure, ...] = ()

    @property
    def recoverable(self) -> bool:  # type: ignore[override]  # depends on who was at fault
        """Whether the service was at fault, and not the graph."""
        return self.status >= 500  # noqa: PLR2004  # HTTP's line between client and server errors

    @property
    def summary(self) -> str:
        """Every complaint."""
        said = [_of_node(failure) for failure in self.failures]
        text = "; ".join(filter(None, [self.message, *said])) or f"HTTP status {self.status}"
        return f"The service refused the graph: {text}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Mend the graph, or install what it needs."""
        if self.kind in ("invalid_prompt", "missing_node_type"):
            return (
                Remedy(text="Install the node pack that brings this class, or take the node out"),
            )
        nodes = ", ".join(dict.fromkeys(failure.node for failure in self.failures))
        return (Remedy(text=f"Correct node {nodes}" if nodes else "Correct the graph"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class NodeFailed(LifecycleError):
    """A node raised while the graph ran.

    Attributes:
        failure: Which node, and what it raised.
        traceback: The last lines of the service's traceback.
    """

    code: ClassVar[str] = "node-failed"

    failure: NodeFailure
    traceback: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        """Show the traceback among the context."""
        self.context: tuple[str, ...] = (*self.context, *self.traceback)

    @property
    def summary(self) -> str:
        """Which node, and what it said."""
        return f"The graph failed: {_of_node(self.failure)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Read what the node was given."""
        return (
            Remedy(text=f"Check the inputs of node {self.failure.node} ({self.failure.node_type})"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class NodeFailedForGood(NodeFailed):
    """A node raised what it would raise again for the same inputs, such as a ``ValueError``."""

    code: ClassVar[str] = "node-failed-for-good"
    recoverable: ClassVar[bool] = False


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceOutOfMemory(LifecycleError):
    """A node asked for more memory than there is.

    Attributes:
        failure: Which node, and what it raised.
    """

    code: ClassVar[str] = "service-out-of-memory"

    failure: NodeFailure

    @property
    def summary(self) -> str:
        """Which node, and what it said."""
        return f"The service ran out of memory: {_of_node(self.failure)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Ask for less, or for a larger GPU."""
        return (
            Remedy(text="Use a smaller picture or batch, or require a GPU with more memory"),
            Remedy(text="See what holds the GPU's memory", command="nvidia-smi"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class GpuFault(LifecycleError):
    """The service's process can't use its GPU any more. A new process can.

    Attributes:
        failure: Which node met it, and what it said.
        source: Which error of CUDA it is.
    """

    code: ClassVar[str] = "gpu-fault"

    failure: NodeFailure
    source: str

    @property
    def summary(self) -> str:
        """Which error, where."""
        return f"The GPU failed ({self.source}): {_of_node(self.failure)}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Restart the service; a machine does so by itself."""
        return (
            Remedy(
                text="Restart the service's process, whose name this shows: no further job can "
                "be done by it",
                command="machine-lifecycle ps",
            ),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class GpuBroken(GpuFault):
    """No process can use the GPU until it is reset."""

    code: ClassVar[str] = "gpu-broken"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Reset it."""
        return (
            Remedy(text="See which GPU it is", command="nvidia-smi"),
            Remedy(text="Reset it, or its host", command="nvidia-smi --gpu-reset"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PromptInterrupted(LifecycleError):
    """Somebody stopped the run at the service.

    Attributes:
        prompt_id: The service's id of the run.
        node: The node it was at, or empty.
        by_us: Whether we asked for it.
    """

    code: ClassVar[str] = "prompt-interrupted"

    prompt_id: str
    node: str = ""
    by_us: bool = False

    @property
    def summary(self) -> str:
        """Where it was stopped, and who did it."""
        at = f" at node {self.node}" if self.node else ""
        who = "as asked" if self.by_us else "by somebody else"
        return f"Prompt {self.prompt_id} was interrupted{at}, {who}"


@attrs.define(kw_only=True, slots=False, eq=False)
class PromptTimeout(LifecycleError):
    """The job took longer than it may; the service was told to stop it.

    Attributes:
        prompt_id: The service's id of the run, or empty if it was not accepted yet.
        seconds: How long it may take.
        progress: How far it was, 0 to 1.
        at: The node it was at, or empty.
    """

    code: ClassVar[str] = "prompt-timeout"

    prompt_id: str = ""
    seconds: float
    progress: float = 0.0
    at: str = ""

    @property
    def summary(self) -> str:
        """How long, and how far it was."""
        at = f" at node {self.at}" if self.at else ""
        return (
            f"The job was not done after {self.seconds:g} s and was stopped "
            f"({self.progress:.0%} done{at})"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Give it more time."""
        minutes = max(1, round(self.seconds * 2 / 60))
        return (
            Remedy(text="Allow more time", command=f"export WORKER_JOB_TIMEOUT_MINUTES={minutes}"),
        )


@attrs.define(kw_only=True, slots=False, eq=False)
class PromptLost(LifecycleError):
    """The service knows nothing of the run any more: it restarted, or its queue was cleared.

    Attributes:
        prompt_id: The service's id of the run.
    """

    code: ClassVar[str] = "prompt-lost"

    prompt_id: str

    @property
    def summary(self) -> str:
        """Which run is gone."""
        return (
            f"The service has prompt {self.prompt_id} neither in its queue nor in its history; "
            "it restarted, or somebody cleared it"
        )

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """See whether it restarted."""
        return (Remedy(text="See whether the service restarted", command="machine-lifecycle ps"),)


@attrs.define(kw_only=True, slots=False, eq=False)
class ServiceHung(LifecycleError):
    """The service says it runs the prompt, but nothing happens.

    A node that ends the service's working thread leaves it like this; only a restart mends it.

    Attributes:
        prompt_id: The service's id of the run.
        seconds: How long nothing was heard.
        at: The node it was at, or empty.
        measured: Whether its processes were looked at, and used nothing.
    """

    code: ClassVar[str] = "service-hung"

    prompt_id: str
    seconds: float
    at: str = ""
    measured: bool = False

    @property
    def summary(self) -> str:
        """How long, and where."""
        at = f" at node {self.at}" if self.at else ""
        idle = ", and its processes do nothing" if self.measured else ""
        return f"Nothing was heard of prompt {self.prompt_id} for {self.seconds:.0f} s{at}{idle}"

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """Restart it."""
        return (
            Remedy(
                text="Restart the service's process, whose name this shows: a node has ended its "
                "working thread",
                command="machine-lifecycle ps",
            ),
        )


def _of_node(failure: NodeFailure) -> str:
    kind = f"{failure.kind}: " if failure.kind else ""
    return f"node {failure.node} ({failure.node_type}): {kind}{failure.message}"
