"""Where a decision log is and how it is kept, as its URI says: `jsonl:///var/log/lepton?keep=30d`, `parquet:log`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from time import time
from urllib.parse import parse_qsl, unquote, urlsplit

from lepton_plugins.errors import InvalidInput

SUFFIXES = (".jsonl", ".parquet")
SCHEMES = ("file", "jsonl", "parquet")

_PERIOD = {"s": 1, "min": 60, "h": 3600, "d": 86400}


@dataclass(frozen=True, slots=True)
class Place:
    """A directory and the options of its URI; None where the URI doesn't say. `keep` and `max_age` in seconds."""

    path: Path
    max_bytes: int | None = None
    max_rows: int | None = None
    keep: float | None = None
    max_age: float | None = None

    @classmethod
    def of(cls, given: str | Path) -> Place:
        """A path, or a URI with one of the schemes; InvalidInput says what it found."""
        text = str(given)
        scheme, colon, rest = text.partition(":")
        if isinstance(given, Path) or not colon or scheme.lower() not in SCHEMES:
            return cls(Path(given))
        parts = urlsplit(rest)
        if parts.netloc not in ("", "localhost") or not parts.path:
            raise InvalidInput(
                f"Found the decision log {text!r}, expected a path or a URI such as {scheme}:///var/log/lepton."
            )
        options: dict[str, int | float] = {}
        for name, value in parse_qsl(parts.query):
            period = re.fullmatch(r"(\d+)(s|min|h|d)", value)
            if name in ("max_bytes", "max_rows") and value.isdigit():
                options[name] = int(value)
            elif name in ("keep", "max_age") and period is not None:
                options[name] = int(period[1]) * _PERIOD[period[2]]
            else:
                raise InvalidInput(
                    f"Found {name}={value} in {text!r}, expected max_bytes or max_rows and a number, or keep or "
                    f"max_age and a time such as 30d or 5min."
                )
        return cls(Path(unquote(parts.path)), **options)  # type: ignore[arg-type]


def log_files(directory: Path, kind: str) -> list[Path]:
    """A log's files of decisions or feedback, oldest first.

    Lines whose Parquet file stands beside them weren't removed yet: they are the same decisions, and count.
    """
    found = [file for file in directory.glob(f"{kind}-*") if file.suffix in SUFFIXES]
    journals = {file.stem for file in found if file.suffix == ".jsonl"}
    kept = [file for file in found if file.suffix == ".jsonl" or journal_of(file) not in journals]
    return sorted(kept, key=lambda file: file.name)


def expire(directory: Path, keep: float | None) -> None:
    """Remove files in which nothing was written for `keep` seconds; other processes may be doing the same."""
    if keep is None:
        return
    oldest = time() - keep
    for file in directory.glob("*-*.*"):
        try:
            if file.suffix in SUFFIXES and file.stat().st_mtime < oldest:
                file.unlink()
        except OSError:
            continue


def journal_of(file: Path) -> str:
    """The stem of the lines that a Parquet file was made of: its own, less the number of the part."""
    return file.stem.rpartition("+")[0]
