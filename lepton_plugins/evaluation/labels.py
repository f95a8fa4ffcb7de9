"""Target labels as positions in a list of class names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import InvalidInput, nearest


def class_codes(labels: NDArray[Any], classes: Sequence[str], what: str = "target") -> NDArray[np.intp]:
    """Each label's position in `classes`, (n,).

    Labels are compared as text; 1, 1.0 and "1" are the same class, and so are True, "True" and "1".
    Raises InvalidInput for a missing label and for one that isn't a class.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise InvalidInput(f"The {what} has shape {labels.shape}, expected one label a row, shape (rows,).")
    if labels.dtype.kind in "iub" or labels.dtype.kind == "f":
        distinct, codes = np.unique(labels, return_inverse=True)
        positions = np.array([_position(value, classes, what) for value in distinct.tolist()], dtype=np.intp)
        return positions[codes.reshape(-1)]
    known: dict[Any, int] = {}
    listed = labels.tolist()
    for value in set(listed):
        known[value] = _position(value, classes, what)
    return np.fromiter((known[value] for value in listed), dtype=np.intp, count=len(listed))


def _position(value: Any, classes: Sequence[str], what: str) -> int:
    for name in _names(value):
        if name in classes:
            return classes.index(name)
    if value is None or value != value:
        raise InvalidInput(f"The {what} has rows without a label. Drop them, then evaluate again.")
    raise InvalidInput(
        f"The {what} has the label {str(value)!r}, expected one of the classes {', '.join(classes[:12])}"
        f"{', …' if len(classes) > 12 else ''}.{nearest(str(value), classes) if len(classes) > 12 else ''}"
    )


def _names(value: Any) -> tuple[str, ...]:
    if isinstance(value, bool):
        return (str(value), str(value).lower(), str(int(value)))
    if isinstance(value, float) and value.is_integer():
        return (str(value), str(int(value)))
    if isinstance(value, int):
        return (str(value), f"{value}.0", *((str(bool(value)), str(bool(value)).lower()) if value in (0, 1) else ()))
    return (str(value),)
