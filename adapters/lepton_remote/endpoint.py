"""A version that another server runs: its files are one, `remote.json`, which says where and what."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field as PydanticField
from pydantic import ValidationError, field_validator, model_validator

from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.errors import DigestMismatch, ModelFilesInvalid
from lepton_plugins.plugins import validation_lines
from lepton_plugins.records.output import OutputKind
from lepton_plugins.records.record import Record
from lepton_plugins.records.signature import Field, Signature
from lepton_plugins.routing.mlmodel import MLMODEL
from lepton_plugins.serving.datatypes import NUMPY

FILE = "remote.json"


class TensorMetadata(Record):
    """An input or output as the protocol's metadata has it; -1 in `shape` for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class Metadata(Record):
    """What a server says of a model: its digest is the version's, in `remote.json`."""

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()


class Endpoint(Record):
    """Where a version is and what it was when it was registered. Times in seconds.

    `url` is http://, https://, or for gRPC grpc:// or grpcs://. `outputs` names the output for a kind, where
    the server's names don't say it. With the protocol `openai` it is asked for chat completions; its model's name
    may hold slashes, and `timeout` is between two parts of an answer. `token_file` holds a bearer token on the
    machine that serves.
    """

    url: str = PydanticField(pattern=r"^(https?|grpcs?)://[^/?#@\s]+/?$")
    protocol: Literal["v2", "openai"] = "v2"
    model: str = PydanticField(pattern=r"^[^?#%\s]+$")
    version: str | None = PydanticField(default=None, pattern=r"^[^/?#%\s]+$")
    timeout: float = PydanticField(default=5.0, gt=0)
    connections: int = PydanticField(default=16, gt=0)
    token_file: str | None = None
    classes: tuple[str, ...] = ()
    outputs: dict[OutputKind, str] = {}
    metadata: Metadata
    schema_version: Literal[1] = 1

    @field_validator("metadata")
    @classmethod
    def _known_datatypes(cls, metadata: Metadata) -> Metadata:
        for tensor in (*metadata.inputs, *metadata.outputs):
            if tensor.datatype not in NUMPY:
                raise ValueError(f"{tensor.name!r} has the datatype {tensor.datatype!r}")
        return metadata

    @model_validator(mode="after")
    def _fits_protocol(self) -> Endpoint:
        if self.protocol == "openai" and not self.url.startswith("http"):
            raise ValueError(f"the protocol openai goes over http:// or https://; found {self.url}")
        if self.protocol == "v2" and "/" in self.model:
            raise ValueError(f"a model's name has no slash; found {self.model!r}")
        return self

    @property
    def signature(self) -> Signature | None:
        """Inputs of one value a row are columns; None where the server tells no inputs."""
        if self.protocol == "openai":
            return Signature(inputs=(Field(name="messages", dtype="object"),))
        if not self.metadata.inputs:
            return None
        columns = all(item.shape[1:] in ((), (1,)) for item in self.metadata.inputs)
        inputs = tuple(
            Field(name=item.name, dtype=_dtype(item), shape=(-1,) if columns else (-1, *item.shape[1:]))
            for item in self.metadata.inputs
        )
        outputs = tuple(
            Field(name=item.name, dtype=_dtype(item), shape=(-1, *item.shape[1:])) for item in self.metadata.outputs
        )
        return Signature(layout="columns" if columns else "tensors", inputs=inputs, outputs=outputs)

    def check(self, found: Metadata) -> None:
        """Whether the server says what it said when the version was registered; DigestMismatch."""
        if found != self.metadata:
            raise DigestMismatch(f"What {self.url} says of {self.model!r}", _digest(found), _digest(self.metadata))

    def write(self, folder: Path) -> Path:
        """Write it as a version's files."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(canonical_json(self.model_dump(mode="json")))
        # MLflow's registry takes it as a model of a flavour that is ours.
        (folder / MLMODEL).write_text(f"flavors:\n  remote:\n    data: {FILE}\n", encoding="utf-8")
        return folder


def _digest(metadata: Metadata) -> str:
    return digest_bytes(canonical_json(metadata.model_dump(mode="json")))


def _dtype(tensor: TensorMetadata) -> str:
    return "str" if tensor.datatype == "BYTES" else NUMPY[tensor.datatype].name


def read_endpoint(path: Path) -> Endpoint | None:
    """The endpoint in a version's files; None where they are something else. ModelFilesInvalid."""
    file = path / FILE if path.is_dir() else path
    if file.name != FILE or not file.is_file():
        return None
    try:
        content: Any = json.loads(file.read_bytes())
        return Endpoint.model_validate(content)
    except ValidationError as error:
        raise ModelFilesInvalid(path, f"{FILE} can't be read: {validation_lines(error)[:500]}") from None
    except ValueError:
        raise ModelFilesInvalid(path, f"{FILE} isn't JSON") from None
