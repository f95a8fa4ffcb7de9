"""What a backend is: it looks at a version's files, loads them and runs them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.records.record import Record
from lepton_plugins.records.signature import Signature


class Inspection(Record):
    """What can be said of a version's files without loading them."""

    format: str
    """How they are stored: "onnx", "skops", "pickle", "cloudpickle", "torchscript", "code" …"""
    carries_code: bool
    """Whether loading runs code from the files: such formats load only with `--trust pickle`."""
    signature: Signature | None = None
    missing: tuple[str, ...] = ()
    """Import names that loading needs and that aren't installed here."""
    install: str = ""
    """What to run to get them."""


class LoadedModel(Protocol):
    """A version ready to answer. `predict` is called from several threads at once.

    One that waits for another host also has `connections`, the number of calls that may wait there at once:
    then no event loop's thread calls it.

    One that can answer in parts also has `stream(columns, request, cancelled)`, an iterator over the parts of one
    row's answer. Without `request` they are texts or what JSON can hold. With it, the body of an OpenAI chat
    completion, they are bytes to pass on: server-sent events, or the whole answer where it doesn't ask for a stream.
    `cancelled` is a `routing.streaming.Cancellation`. Where it can't: StreamingUnavailable.
    """

    signature: Signature | None
    classes: tuple[str, ...]
    """Class names in the order of the probability columns, where the model knows them."""

    def predict(self, columns: Mapping[str, NDArray[Any]], output: OutputKind) -> NDArray[Any]:
        """Answer `rows` rows; shapes and dtypes by kind are in `records.output`.

        `columns` maps the signature's input names to arrays with the batch axis first. A kind that the
        model can't give raises OutputUnavailable; whatever else it raises is the model's failure.
        """
        ...

    def close(self) -> None: ...


class Backend(Protocol):
    """Made without arguments. `inspect` imports no loader and reads small files only."""

    name: str

    def inspect(self, path: Path) -> Inspection | None:
        """What the files at `path` are; None if this backend doesn't run their kind."""
        ...

    def load(self, path: Path, *, threads: int | None = None) -> LoadedModel:
        """Load the files; the caller has checked their digest and the leave to load their format."""
        ...


class PlacingBackend(Backend, Protocol):
    """A backend that runs a version on a GPU or beside it, as it is told."""

    places: Literal[True]

    def load(self, path: Path, *, threads: int | None = None, gpu: bool | None = None) -> LoadedModel:
        """`gpu`: whether the plan gives the version one; None: it says nothing of GPUs."""
        ...


class ServiceBackend(Backend, Protocol):
    """A backend whose versions other servers run."""

    def point(self, to: Path, url: str, *, model: str, plan: DeploymentPlan, timeout: float) -> None:
        """Write into `to` the files of a version that Lepton's data plane at `url` serves as `model` by `plan`.

        Nothing is asked: the server needn't be there yet. `timeout` of one call in seconds.
        """
        ...
