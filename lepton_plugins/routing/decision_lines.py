"""The lines of a decision log: one for the decisions of a request, one for each feedback."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.records.decision import Decision, Feedback
from lepton_plugins.routing.store import DecisionBlock


class Column(msgspec.Struct):
    """A context column: numpy's name of its dtype, and its values; NaN and infinity as text, dates in ISO 8601."""

    dtype: str
    values: list[Any]


class BlockLine(msgspec.Struct, tag_field="kind", tag="decisions", omit_defaults=True):
    """The decisions of one request, by column as in `DecisionBlock`; only the cells that its rows are in."""

    request: str
    rows: int
    time: float
    plan: str
    arms: list[str]
    chosen: list[int]
    cells: list[int]
    vectors: list[list[float]]
    draws: list[int]
    reasons: list[str]
    segments: list[str | None]
    context: dict[str, Column] = {}
    served: list[int] | None = None
    """Absent where the chosen arms answered."""
    keys: list[str | None] | None = None
    forced: bool = False
    fallback: list[str | None] | None = None
    shadows: list[str] = []
    state: str | None = None
    model: str = ""
    consulted: bool = False


class FeedbackLine(msgspec.Struct, tag_field="kind", tag="feedback", omit_defaults=True):
    """Feedback with the decision that it belongs to."""

    decision: str
    time: float
    of: dict[str, Any]
    reward: float | None = None
    label: str | float | int | bool | None = None


class Head(msgspec.Struct):
    """What an index needs of any line."""

    kind: str
    request: str = ""
    rows: int = 0
    decision: str = ""


_ENCODER = msgspec.json.Encoder(enc_hook=str)
LINES = msgspec.json.Decoder(BlockLine | FeedbackLine)
HEADS = msgspec.json.Decoder(Head)


def encode_block(block: DecisionBlock) -> bytes:
    """One line, line feed included."""
    return _ENCODER.encode(_row_line(block) if len(block) == 1 else _line(block)) + b"\n"


def _row_line(block: DecisionBlock) -> BlockLine:
    """One row, the usual case online: a fifth of the time of the general one."""
    chosen = block.chosen.tolist()
    served = block.served.tolist()
    (cell,) = block.cells.tolist()
    return BlockLine(
        block.request,
        1,
        block.time,
        block.plan,
        block.arms,  # type: ignore[arg-type]  # Any sequence is written alike.
        chosen,
        [0],
        [block.vectors[cell].tolist()],
        block.draws.tolist(),
        [block.reasons[cell]],
        [block.segments[cell]],
        {name: _column(values) for name, values in block.context.items()},
        None if served == chosen else served,
        None if block.keys is None else [block.keys[0]],
        block.forced,
        None if block.fallback is None else [block.fallback[0]],
        list(block.shadows),
        block.state,
        block.model,
        block.consulted,
    )


def _line(block: DecisionBlock) -> BlockLine:
    cells = block.cells.tolist()
    # Plain numbers: for the few requests that are answered together numpy's way takes ten times as long.
    used = sorted(set(cells))
    place = {cell: number for number, cell in enumerate(used)}
    chosen, served = block.chosen.tolist(), block.served.tolist()
    return BlockLine(
        request=block.request,
        rows=len(block),
        time=block.time,
        plan=block.plan,
        arms=list(block.arms),
        chosen=chosen,
        cells=[place[cell] for cell in cells],
        vectors=block.vectors[used].tolist(),
        draws=block.draws.tolist(),
        reasons=[block.reasons[cell] for cell in used],
        segments=[block.segments[cell] for cell in used],
        context={name: _column(values) for name, values in block.context.items()},
        served=None if served == chosen else served,
        keys=None if block.keys is None else list(block.keys),
        forced=block.forced,
        fallback=None if block.fallback is None else list(block.fallback),
        shadows=list(block.shadows),
        state=block.state,
        model=block.model,
        consulted=block.consulted,
    )


def decode_block(line: BlockLine) -> DecisionBlock:
    """The block that was encoded, bit for bit."""
    chosen = np.asarray(line.chosen, dtype=np.intp)
    return DecisionBlock(
        request=line.request,
        time=line.time,
        plan=line.plan,
        arms=line.arms,
        keys=line.keys,
        context={name: values_of(column) for name, column in line.context.items()},
        chosen=chosen,
        served=chosen if line.served is None else np.asarray(line.served, dtype=np.intp),
        cells=np.asarray(line.cells, dtype=np.intp),
        vectors=np.asarray(line.vectors, dtype=np.float64).reshape(-1, len(line.arms)),
        draws=np.asarray(line.draws, dtype=np.uint64),
        reasons=line.reasons,
        segments=line.segments,
        forced=line.forced,
        fallback=line.fallback,
        shadows=tuple(line.shadows),
        state=line.state,
        model=line.model,
        consulted=line.consulted,
    )


def encode_feedback(item: Feedback, decision: Decision, now: float) -> bytes:
    """One line, line feed included."""
    time = item.time if item.time is not None else now
    line = FeedbackLine(item.decision, time, decision.model_dump(mode="json"), item.reward, item.label)
    return _ENCODER.encode(line) + b"\n"


def decode_feedback(line: FeedbackLine) -> tuple[Feedback, Decision]:
    """The feedback and its decision."""
    feedback = Feedback(decision=line.decision, reward=line.reward, label=line.label, time=line.time)
    return feedback, Decision.model_validate(line.of)


def _column(values: NDArray[Any]) -> Column:
    kind = values.dtype.kind
    if kind == "M":
        return Column(values.dtype.name, np.datetime_as_string(values).tolist())
    plain = values.tolist()
    if kind == "f" and not np.isfinite(values).all():
        plain = [value if value - value == 0 else repr(value) for value in plain]
    return Column("object" if kind in "OUS" else values.dtype.name, plain)


def values_of(column: Column) -> NDArray[Any]:
    """A context column as the array that was logged."""
    if column.dtype == "object":
        values = np.empty(len(column.values), dtype=object)
        values[:] = column.values
        return values
    dtype = np.dtype(column.dtype)
    plain = [float(value) for value in column.values] if dtype.kind == "f" else column.values
    return np.asarray(plain, dtype=dtype)
