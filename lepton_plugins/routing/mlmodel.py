"""MLflow model directories, read without importing MLflow: the `MLmodel` file and its signature.

The format is MLflow's own (https://mlflow.org/docs/latest/model, "MLflow Model format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lepton_plugins.errors import ModelFilesInvalid
from lepton_plugins.records.signature import Field, Signature

MLMODEL = "MLmodel"

#: MLflow's column types and numpy's names for them.
_DTYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
    "binary": "bytes",
    "datetime": "datetime64[ns]",
}
#: Types of parameters: MLflow gives a model Python's own numbers, and so the widest.
_PARAMETERS = {**_DTYPES, "integer": "int64", "float": "float64"}
del _PARAMETERS["binary"]


@dataclass(frozen=True, slots=True)
class MlModel:
    """What an `MLmodel` file says. `flavors` maps a flavour's name to its configuration.

    `parameters` are those of the signature, of one value or a list of them each, which a call may leave out.
    """

    path: Path
    flavors: Mapping[str, Mapping[str, Any]]
    signature: Signature | None
    parameters: tuple[Field, ...] = ()

    @property
    def native_flavors(self) -> tuple[str, ...]:
        """The flavours other than `python_function`."""
        return tuple(name for name in self.flavors if name != "python_function")

    @property
    def callable_signature(self) -> Signature | None:
        """The signature as a pyfunc is called."""
        return with_parameters(self.signature, self.parameters)

    def file(self, relative: object) -> Path:
        """A file or folder that the MLmodel names, which must be inside the directory; else ModelFilesInvalid."""
        if not isinstance(relative, str) or not relative:
            raise ModelFilesInvalid(self.path, f"MLmodel names {relative!r} as a file")
        file = self.path / relative
        if not file.resolve().is_relative_to(self.path.resolve()):
            raise ModelFilesInvalid(self.path, f"MLmodel names {relative!r}, which is outside the model's directory")
        return file


def read_mlmodel(path: Path) -> MlModel | None:
    """The MLmodel file of a directory; None if there is none, ModelFilesInvalid if it can't be read."""
    file = path / MLMODEL
    if not file.is_file():
        return None
    import yaml  # Here: versions that a server loads may have none of these files.

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)  # Both are safe loaders.
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ModelFilesInvalid(path, f"MLmodel isn't valid YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(content, dict) or not isinstance(content.get("flavors"), dict):
        raise ModelFilesInvalid(path, "MLmodel has no flavors")
    flavors = {str(name): conf if isinstance(conf, dict) else {} for name, conf in content["flavors"].items()}
    signature = _signature(path, content.get("signature"))
    if signature is not None and "onnx" in flavors:
        signature = as_table(signature)
    parameters = _parameters(path, content.get("signature"), signature)
    return MlModel(path, flavors, signature, parameters)


def as_table(signature: Signature) -> Signature:
    """Tensors of one value a row, as columns: what converters write for the columns of a table is (rows, 1)."""
    if signature.layout == "columns" or any(field.shape[1:] not in ((), (1,)) for field in signature.inputs):
        return signature
    columns = tuple(field.model_copy(update={"shape": (-1,)}) for field in signature.inputs)
    return signature.model_copy(update={"layout": "columns", "inputs": columns})


def with_parameters(signature: Signature | None, parameters: Sequence[Field]) -> Signature | None:
    """A signature, and a pyfunc's parameters as columns that a request may leave out."""
    if signature is None:
        return None
    return signature.model_copy(update={"inputs": (*signature.inputs, *parameters)})


def _signature(path: Path, content: object) -> Signature | None:
    if not isinstance(content, dict) or not content.get("inputs"):
        return None
    try:
        return signature_from_mlflow(json.loads(content["inputs"]), json.loads(content.get("outputs") or "[]"))
    except (TypeError, ValueError, KeyError) as error:
        raise ModelFilesInvalid(path, f"MLmodel's signature can't be read: {error}") from None


def _parameters(path: Path, content: object, signature: Signature | None) -> tuple[Field, ...]:
    if signature is None or not isinstance(content, dict) or not content.get("params"):
        return ()
    try:
        fields = [
            Field(
                name=str(item["name"]),
                dtype=_PARAMETERS[item["type"]],
                shape=(-1, -1) if item.get("shape") else (-1,),
                required=False,
                parameter=True,
            )
            for item in json.loads(content["params"])
            if item.get("type") in _PARAMETERS
        ]
    except (TypeError, ValueError, KeyError) as error:
        raise ModelFilesInvalid(path, f"MLmodel's parameters can't be read: {error}") from None
    return tuple(field for field in fields if field.name not in signature.input_names)


def signature_from_mlflow(inputs: Sequence[Mapping[str, Any]], outputs: Sequence[Mapping[str, Any]]) -> Signature:
    """A signature from MLflow's schema JSON, as in `MLmodel` (`ModelSignature.to_dict`, decoded).

    Unnamed columns are called by their position ("0", "1" …), an unnamed tensor "input" or "output".
    """
    tensors = any(item.get("type") == "tensor" for item in inputs)
    return Signature(
        layout="tensors" if tensors else "columns",
        inputs=_fields(inputs, "input"),
        outputs=_fields(outputs, "output"),
    )


def _fields(items: Sequence[Mapping[str, Any]], word: str) -> tuple[Field, ...]:
    fields = []
    for index, item in enumerate(items):
        name = item.get("name")
        required = bool(item.get("required", not item.get("optional", False)))
        if item.get("type") == "tensor":
            spec = item["tensor-spec"]
            unnamed = word if len(items) == 1 else f"{word}_{index}"
            shape = tuple(int(size) for size in spec["shape"]) or (-1,)
            dtype = _tensor_dtype(str(spec["dtype"]))
            fields.append(Field(name=unnamed if name is None else str(name), dtype=dtype, shape=shape))
        else:
            dtype = _DTYPES.get(str(item.get("type")), "object")
            unnamed = "output" if word == "output" and len(items) == 1 else str(index)
            fields.append(Field(name=unnamed if name is None else str(name), dtype=dtype, required=required))
    return tuple(fields)


def _tensor_dtype(name: str) -> str:
    if name in ("str", "bytes", "object"):
        return name
    return {"<U": "str", "|S": "bytes"}.get(name[:2], name)
