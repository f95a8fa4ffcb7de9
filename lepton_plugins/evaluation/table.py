"""Tables that users name on the command line or pass in: parquet, csv, jsonl, DataFrame."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lepton_plugins.errors import DataUnreadable, InvalidInput, PathMissing

if TYPE_CHECKING:
    import pandas as pd

_CSV = (".csv", ".csv.gz", ".tsv", ".tsv.gz")
_JSONL = (".jsonl", ".jsonl.gz", ".ndjson")
_PARQUET = (".parquet", ".pq")


def read_table(source: pd.DataFrame | Path | str) -> pd.DataFrame:
    """A table by its file's ending; a directory is one of parquet files. Column names become text.

    PathMissing, DataUnreadable (the file isn't what its ending says), InvalidInput (two columns of one name).
    """
    import pandas as pd

    frame = source if isinstance(source, pd.DataFrame) else _read(Path(source))
    names = [str(name) for name in frame.columns]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise InvalidInput(f"The data has several columns named {doubled[0]!r}; each name must be there once.")
    return frame if names == list(frame.columns) else frame.set_axis(names, axis=1)


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    if not path.exists():
        raise PathMissing(path, "The data")
    name = path.name.lower()
    try:
        if path.is_dir() or name.endswith(_PARQUET):
            return pd.read_parquet(path)
        if name.endswith(_CSV):
            # The default parser is off by a bit in the last digit: the same data would get another digest.
            separator = "\t" if ".tsv" in name else ","
            return pd.read_csv(path, sep=separator, float_precision="round_trip", low_memory=False)
        if name.endswith(_JSONL):
            return pd.read_json(path, lines=True, precise_float=True, convert_dates=False)
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (ValueError, OSError, UnicodeDecodeError) as error:
        raise DataUnreadable(path, " ".join(str(error).split())[:300]) from error
    raise DataUnreadable(path, f"the ending {path.suffix!r} isn't known")


def table_name(source: pd.DataFrame | Path | str) -> str:
    """The name a table goes by when nobody gives it one: its file's, without endings."""
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        return "data"
    return Path(source).name.partition(".")[0] or "data"
