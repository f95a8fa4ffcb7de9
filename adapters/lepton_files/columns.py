"""Decisions as columns of Parquet: one row a decision, and back to the blocks that were logged, bit for bit.

Each context column is `context.<name>`. The file's metadata `lepton` names the NumPy dtype of each; columns of
objects are text (`text`), or JSON where a value isn't text (`json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.store import DecisionBlock, plain

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"lepton"
PREFIX = "context."

#: The context columns of a file: pairs of name and dtype.
Context = tuple[tuple[str, str], ...]


def context_of(block: DecisionBlock) -> Context:
    """What a block's context columns are stored as; blocks that agree in it share a file."""
    return tuple((name, _stored_as(values)) for name, values in block.context.items())


def table_of(blocks: Sequence[DecisionBlock], context: Context) -> pa.Table:
    """The rows of blocks that agree in their context."""
    import pyarrow as pa

    def texts(values: Iterable[str | None]) -> pa.Array:
        return pa.array(values, pa.string()).dictionary_encode()

    def lists(values: Iterable[Sequence[Any]], of: pa.DataType) -> pa.Array:
        return pa.array(values, pa.list_(of))

    rows = [len(block) for block in blocks]
    columns: dict[str, Any] = {
        "request": texts(_repeated((block.request for block in blocks), rows)),
        "row": pa.array(np.concatenate([np.arange(count) for count in rows]), pa.int32()),
        "time": np.repeat([block.time for block in blocks], rows),
        "model": texts(_repeated((block.model for block in blocks), rows)),
        "plan": texts(_repeated((block.plan for block in blocks), rows)),
        "key": pa.array([key for block in blocks for key in (block.keys or [None] * len(block))], pa.string()),
        "keyed": np.repeat([block.keys is not None for block in blocks], rows),
        "segment": texts(block.segments[cell] for block in blocks for cell in block.cells.tolist()),
        "chosen": texts(block.arms[arm] for block in blocks for arm in block.chosen.tolist()),
        "served": texts(block.arms[arm] for block in blocks for arm in block.served.tolist()),
        "arms": lists(_repeated((list(block.arms) for block in blocks), rows), pa.string()),
        "propensity": lists((vector for block in blocks for vector in block.vectors[block.cells]), pa.float64()),
        "draw": np.concatenate([block.draws for block in blocks]),
        "reason": texts(block.reasons[cell] for block in blocks for cell in block.cells.tolist()),
        "forced": np.repeat([block.forced for block in blocks], rows),
        "consulted": np.repeat([block.consulted for block in blocks], rows),
        "fallback": texts(cause for block in blocks for cause in (block.fallback or [None] * len(block))),
        "shadows": lists(_repeated((list(block.shadows) for block in blocks), rows), pa.string()),
        "state": texts(_repeated((block.state for block in blocks), rows)),
    }
    for name, kind in context:
        parts = [block.context[name] for block in blocks]
        columns[PREFIX + name] = _array(pa, parts, kind)
    schema = pa.schema(
        [(name, getattr(values, "type", None) or pa.from_numpy_dtype(values.dtype)) for name, values in columns.items()]
    )
    return pa.table(columns, schema=schema.with_metadata({METADATA: json.dumps({"context": context})}))


def blocks_of(table: pa.Table) -> Iterator[DecisionBlock]:
    """The blocks that the rows were logged as."""
    context = [(name, kind) for name, kind in json.loads(table.schema.metadata[METADATA])["context"]]
    lists = {name: table[name].to_pylist() for name in table.column_names if not name.startswith(PREFIX)}
    draws = table["draw"].to_numpy()
    columns = {name: _values(table[PREFIX + name], kind) for name, kind in context}
    starts = [index for index, row in enumerate(lists["row"]) if row == 0 or index == 0]
    for start, end in zip(starts, [*starts[1:], table.num_rows], strict=True):
        arms = lists["arms"][start]
        place = {arm: index for index, arm in enumerate(arms)}
        chosen = np.array([place[arm] for arm in lists["chosen"][start:end]], dtype=np.intp)
        fallback = lists["fallback"][start:end]
        told = list(
            zip(
                map(tuple, lists["propensity"][start:end]),
                lists["reason"][start:end],
                lists["segment"][start:end],
                strict=True,
            )
        )
        cells = list(dict.fromkeys(told))
        number = {cell: index for index, cell in enumerate(cells)}
        yield DecisionBlock(
            request=lists["request"][start],
            time=lists["time"][start],
            plan=lists["plan"][start],
            arms=arms,
            keys=lists["key"][start:end] if lists["keyed"][start] else None,
            context={name: values[start:end] for name, values in columns.items()},
            chosen=chosen,
            served=np.array([place[arm] for arm in lists["served"][start:end]], dtype=np.intp),
            cells=np.array([number[cell] for cell in told], dtype=np.intp),
            vectors=np.array([cell[0] for cell in cells], dtype=np.float64),
            draws=draws[start:end],
            reasons=[cell[1] for cell in cells],
            segments=[cell[2] for cell in cells],
            forced=lists["forced"][start],
            fallback=fallback if any(cause is not None for cause in fallback) else None,
            shadows=tuple(lists["shadows"][start]),
            state=lists["state"][start],
            model=lists["model"][start],
            consulted=lists["consulted"][start],
        )


def batches(blocks: Iterable[DecisionBlock], rows: int) -> Iterator[list[DecisionBlock]]:
    """Runs of blocks with about so many rows each."""
    counted = 0
    held: list[DecisionBlock] = []
    for block in blocks:
        held.append(block)
        counted += len(block)
        if counted >= rows:
            yield held
            held, counted = [], 0
    if held:
        yield held


def by_context(blocks: Iterable[DecisionBlock]) -> Iterator[tuple[Context, list[DecisionBlock]]]:
    """Blocks whose context columns agree, together and in their order; empty ones are left out."""
    ordered = sorted(((context_of(block), block) for block in blocks if len(block)), key=lambda pair: pair[0])
    for context, group in groupby(ordered, key=lambda pair: pair[0]):
        yield context, [block for _, block in group]


def _repeated(values: Iterable[Any], rows: Sequence[int]) -> list[Any]:
    return [value for value, count in zip(values, rows, strict=True) for _ in range(count)]


def _stored_as(values: NDArray[Any]) -> str:
    if values.dtype.kind not in "OUS":
        return values.dtype.name
    return "text" if all(value is None or type(value) is str for value in values.tolist()) else "json"


def _array(pa: Any, parts: Sequence[NDArray[Any]], kind: str) -> Any:
    if kind == "text":
        return pa.array([value for part in parts for value in part.tolist()], pa.string()).dictionary_encode()
    if kind == "json":
        values = [msgspec.json.encode(plain(value), enc_hook=str).decode() for part in parts for value in part.tolist()]
        return pa.array(values, pa.string())
    return pa.array(np.concatenate(parts))


def _values(column: Any, kind: str) -> NDArray[Any]:
    if kind not in ("text", "json"):
        values: NDArray[Any] = column.to_numpy().astype(kind)
        return values
    boxed = np.empty(len(column), dtype=object)
    found = column.to_pylist()
    boxed[:] = found if kind == "text" else [msgspec.json.decode(value) for value in found]
    return boxed
