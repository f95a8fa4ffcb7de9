"""What Lepton offers on plain files."""

from __future__ import annotations

from lepton_plugins import hookimpl
from lepton_plugins.records.plugin import StoreOffer


@hookimpl
def lepton_stores() -> list[StoreOffer]:
    return [
        StoreOffer(
            name="jsonl",
            summary="Decisions and feedback as JSON Lines in a directory",
            target="lepton_files.jsonl:JsonLinesDecisionLog",
            schemes=("file", "jsonl"),
            reader="lepton_files.jsonl:LogFiles",
        ),
        StoreOffer(
            name="parquet",
            summary="Decisions as Parquet in a directory, feedback as JSON Lines",
            target="lepton_files.parquet_log:ParquetDecisionLog",
            schemes=("parquet",),
            reader="lepton_files.jsonl:LogFiles",
            requires=("pyarrow",),
            install="pip install pyarrow",
        ),
        StoreOffer(
            name="files",
            summary="Learning state in a directory, shared by the processes of a machine",
            target="lepton_files.state:FileStateStore",
            schemes=("file",),
            holds="state",
        ),
    ]
