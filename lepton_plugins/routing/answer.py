"""The answer to some rows, and one answer of several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.errors import LeptonError, NullUnanswered
from lepton_plugins.routing.arm_calls import Part


class Answer(NamedTuple):
    """`served` (rows,) is the arm that answered each row, `causes` why it isn't the chosen one."""

    values: NDArray[Any]
    served: NDArray[np.intp]
    causes: list[str | None] | None


class OutputMixed(LeptonError):
    """Versions whose answers can't stand in one array."""

    code = "output_mixed"
    http_status = 500

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        found = " and ".join(sorted({str(shape) for shape in shapes}))
        super().__init__(f"The versions' answers have different shapes a row: {found}; plan versions that agree.")


@contextmanager
def numbered(rows: NDArray[np.intp]) -> Iterator[None]:
    """What is said of the rows that are answered inside names them as the request does: `rows` are their numbers."""
    try:
        yield
    except NullUnanswered as error:
        raise NullUnanswered(error.inputs, rows[list(error.rows)].tolist(), error.versions) from None


def together(answers: Sequence[tuple[NDArray[np.intp], Answer]], rows: int) -> Answer:
    """One answer of several, each for its own rows."""
    served = np.empty(rows, dtype=np.intp)
    causes: list[str | None] = [None] * rows
    for index, answer in answers:
        served[index] = answer.served
        for row, cause in zip(index.tolist(), answer.causes or (), strict=False):
            causes[row] = cause
    values = assemble([Part(-1, index, answer.values, None, None) for index, answer in answers], rows)
    return Answer(values, served, causes if any(causes) else None)


def assemble(parts: list[Part], rows: int) -> NDArray[Any]:
    """All rows in order, from parts that hold some each."""
    answers = [part.values for part in parts if part.values is not None]
    if len(parts) == 1 and len(answers[0]) == rows:
        return answers[0]
    if len({answer.shape[1:] for answer in answers}) > 1:
        raise OutputMixed([answer.shape[1:] for answer in answers])
    kinds = {answer.dtype.kind for answer in answers}
    dtype = np.result_type(*answers) if len(kinds) == 1 else np.dtype(object)
    values = np.empty((rows, *answers[0].shape[1:]), dtype=dtype)
    for part in parts:
        values[part.rows] = part.values
    return values
