"""Decisions as columns of Parquet: one row a decision, and back to the blocks that were logged, bit for bit.

Each context column is `context.<name>`. The file's metadata `lepton` names the NumPy dtype of each; columns of
objects are text (`text`), or JSON where a value isn't text (`json`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from lepton_plugins.routing.decision_lines import BlockLine, Column, values_of
from lepton_plugins.routing.store import DecisionBlock

if TYPE_CHECKING:
    import pyarrow as pa

METADATA = b"lepton"
PREFIX = "context."

#: The context columns of a file: pairs of name and dtype.
Context = tuple[tuple[str, str], ...]


def context_of(line: BlockLine) -> Context:
    """What a block's context columns are stored as; blocks that agree in it share a file."""
    return tuple((name, _stored_as(column)) for name, column in line.context.items())


def table_of(lines: Sequence[BlockLine], context: Context) -> pa.Table:
    """The rows of blocks that agree in their context. Lines are lists already: no array is made for each of them."""
    import pyarrow as pa

    def texts(values: Iterable[str | None]) -> pa.Array:
        return pa.array(values, pa.string()).dictionary_encode()

    def lists(values: Iterable[Sequence[Any]], of: pa.DataType) -> pa.Array:
        return pa.array(values, pa.list_(of))

    def repeated(values: Iterable[Any]) -> list[Any]:
        return [value for value, line in zip(values, lines, strict=True) for _ in range(line.rows)]

    columns: dict[str, pa.Array] = {
        "request": texts(repeated(line.request for line in lines)),
        "row": pa.array([row for line in lines for row in range(line.rows)], pa.int32()),
        "time": pa.array(repeated(line.time for line in lines), pa.float64()),
        "model": texts(repeated(line.model for line in lines)),
        "plan": texts(repeated(line.plan for line in lines)),
        "key": pa.array([key for line in lines for key in (line.keys or [None] * line.rows)], pa.string()),
        "keyed": pa.array(repeated(line.keys is not None for line in lines)),
        "segment": texts(line.segments[cell] for line in lines for cell in line.cells),
        "chosen": texts(line.arms[arm] for line in lines for arm in line.chosen),
        "served": texts(line.arms[arm] for line in lines for arm in (line.served or line.chosen)),
        "arms": lists(repeated(line.arms for line in lines), pa.string()),
        "propensity": lists((line.vectors[cell] for line in lines for cell in line.cells), pa.float64()),
        "draw": pa.array([draw for line in lines for draw in line.draws], pa.uint64()),
        "reason": texts(line.reasons[cell] for line in lines for cell in line.cells),
        "forced": pa.array(repeated(line.forced for line in lines)),
        "consulted": pa.array(repeated(line.consulted for line in lines)),
        "fallback": texts(cause for line in lines for cause in (line.fallback or [None] * line.rows)),
        "shadows": lists(repeated(line.shadows for line in lines), pa.string()),
        "state": texts(repeated(line.state for line in lines)),
    }
    for name, kind in context:
        values = [value for line in lines for value in line.context[name].values]
        columns[PREFIX + name] = _array(pa, values, kind)
    schema = pa.schema([(name, values.type) for name, values in columns.items()])
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


def batches(lines: Iterable[BlockLine], rows: int) -> Iterator[list[BlockLine]]:
    """Runs of blocks with about so many rows each."""
    counted = 0
    held: list[BlockLine] = []
    for line in lines:
        held.append(line)
        counted += line.rows
        if counted >= rows:
            yield held
            held, counted = [], 0
    if held:
        yield held


def by_context(lines: Iterable[BlockLine]) -> Iterator[tuple[Context, list[BlockLine]]]:
    """Blocks whose context columns agree, together and in their order; empty ones are left out."""
    found: dict[Context, list[BlockLine]] = {}
    for line in lines:
        if line.rows:
            found.setdefault(context_of(line), []).append(line)
    yield from found.items()


def _stored_as(column: Column) -> str:
    if column.dtype != "object":
        return column.dtype
    return "text" if all(value is None or type(value) is str for value in column.values) else "json"


def _array(pa: Any, values: list[Any], kind: str) -> Any:
    if kind == "text":
        return pa.array(values, pa.string()).dictionary_encode()
    if kind == "json":
        return pa.array([msgspec.json.encode(value).decode() for value in values], pa.string())
    return pa.array(values_of(Column(kind, values)))


def _values(column: Any, kind: str) -> NDArray[Any]:
    if kind not in ("text", "json"):
        values: NDArray[Any] = column.to_numpy().astype(kind)
        return values
    boxed = np.empty(len(column), dtype=object)
    found = column.to_pylist()
    boxed[:] = found if kind == "text" else [msgspec.json.decode(value) for value in found]
    return boxed
