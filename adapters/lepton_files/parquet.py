"""A decision log in Parquet: lines as they come, columns as soon as a file of lines is complete.

What was decided stands in a file of JSON Lines within a moment, so that a crash loses no more than it would there.
When that file is full or old enough a thread turns it into Parquet, one file for each set of context columns:
written beside it, synced, put in place by a rename, and only then are the lines removed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lepton_files.columns import Context, batches, blocks_of, by_context, table_of
from lepton_plugins.errors import LogUnreadable, PackageMissing
from lepton_plugins.routing.decision_lines import LINES, BlockLine
from lepton_plugins.routing.store import DecisionBlock

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

logger = logging.getLogger("lepton_files")

#: Decisions in one row group.
GROUP_ROWS = 5_000


def read_parquet(file: Path) -> Iterator[DecisionBlock]:
    """The decisions of one file, as they were logged."""
    parquet = parquet_module()
    try:
        opened = parquet.ParquetFile(file)
        for group in range(opened.num_row_groups):
            yield from blocks_of(opened.read_row_group(group))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LogUnreadable(file, f"{type(error).__name__}: {error}") from None


def read_group(file: Path, group: int) -> pa.Table:
    """One row group."""
    return parquet_module().ParquetFile(file).read_row_group(group)


def requests_of(file: Path) -> Iterator[dict[str, list[Any]]]:
    """Of each row group the columns `request` and `row`."""
    opened = parquet_module().ParquetFile(file)
    for group in range(opened.num_row_groups):
        yield opened.read_row_group(group, columns=["request", "row"]).to_pydict()


def seal(journal: Path) -> list[Path]:
    """Turn a complete file of lines into Parquet and remove it; the files made. Done twice, it makes the same files."""
    parquet = parquet_module()
    writers: dict[Context, tuple[pq.ParquetWriter, Path]] = {}
    made: list[Path] = []
    try:
        for held in batches(_read(journal), GROUP_ROWS):
            for context, lines in by_context(held):
                table = table_of(lines, context)
                if context not in writers:
                    target = journal.with_name(f"{journal.stem}+{len(writers)}.parquet")
                    part = target.with_name(f".{target.name}.part")
                    writers[context] = parquet.ParquetWriter(part, table.schema, compression="zstd"), target
                writers[context][0].write_table(table)
    finally:
        for writer, _ in writers.values():
            writer.close()
    for _, target in writers.values():
        part = target.with_name(f".{target.name}.part")
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        part.replace(target)
        made.append(target)
    _sync(journal.parent)
    journal.unlink(missing_ok=True)
    return made


def _read(journal: Path) -> Iterator[BlockLine]:
    with journal.open("rb") as stream:
        for text in stream:
            try:
                line = LINES.decode(text)
            except msgspec.DecodeError:
                continue  # Torn by a crash.
            if isinstance(line, BlockLine):
                yield line


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def parquet_module() -> Any:
    """pyarrow.parquet; PackageMissing where it isn't installed."""
    try:
        import pyarrow.parquet
    except ModuleNotFoundError:
        raise PackageMissing("pyarrow", "A decision log in Parquet", "pip install pyarrow") from None
    return pyarrow.parquet
