"""The classes of a classification: the data's, in order, and how a model's own line up with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import ClassesDiffer, OutputInvalid
from lepton_plugins.records.output import OutputKind
from lepton_plugins.routing.outputs import class_names


def align_classes(
    output: NDArray[Any], kind: OutputKind, own: Sequence[str], data: Sequence[str], version: str
) -> tuple[NDArray[Any], tuple[str, ...], list[str]]:
    """A classification's output in the data's classes: (output, classes, notes).

    `own` are the model's class names in the order of its columns, empty if it doesn't know them: then its
    columns are taken in the order of the data's classes. Classes that only the model knows come last; a
    class that only the data knows gets probability 0. Booleans and 0/1 are the same classes.
    ClassesDiffer where the two have nothing to do with each other.
    """
    if kind == "label":
        return _labels(output, data, version)
    if not own:
        if output.shape[1] != len(data):
            expected = f"{len(data)}, one for each of the classes {', '.join(data[:8])}"
            raise OutputInvalid(version, f"{output.shape[1]} unnamed probabilities a row", expected)
        return output, tuple(data), [f"the model doesn't name its classes: its columns were taken as {', '.join(data)}"]
    if len(own) != output.shape[1]:
        raise OutputInvalid(
            version, f"{output.shape[1]} probabilities a row", f"{len(own)}, one for each of its classes"
        )
    rename = _renaming(own, data)
    named = [rename.get(name, name) for name in own]
    if not set(named) & set(data):
        raise ClassesDiffer(version, own, data)
    classes = (*data, *sorted(set(named) - set(data)))
    unknown = [name for name in data if name not in named]
    notes = [f"classes that the model doesn't know got probability 0: {', '.join(unknown)}"] if unknown else []
    if named == list(classes):
        return output, classes, notes
    aligned = np.zeros((len(output), len(classes)))
    for column, name in enumerate(named):
        aligned[:, classes.index(name)] = output[:, column]
    return aligned, classes, notes


def _labels(output: NDArray[Any], data: Sequence[str], version: str) -> tuple[NDArray[Any], tuple[str, ...], list[str]]:
    import pandas as pd

    codes, distinct = pd.factorize(output)
    if (codes < 0).any():
        raise OutputInvalid(version, f"no label in {int((codes < 0).sum())} rows", "a label in each")
    own = class_names(distinct)
    rename = _renaming(own, data)
    named = [rename.get(name, name) for name in own]
    if not set(named) & set(data):
        raise ClassesDiffer(version, own, data)
    return np.array(named, dtype=object)[codes], (*data, *sorted(set(named) - set(data))), []


def _renaming(own: Sequence[str], data: Sequence[str]) -> dict[str, str]:
    """Another spelling of the same classes (1.0 or True for 1), where none is spelt alike."""
    if set(own) & set(data):
        return {}
    spelt = {_canonical(name): name for name in data}
    return {name: spelt[_canonical(name)] for name in own if _canonical(name) in spelt}


def _canonical(name: str) -> str:
    return {"True": "1", "False": "0", "true": "1", "false": "0"}.get(name, name).removesuffix(".0")
