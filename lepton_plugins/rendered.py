"""The place of what was rendered: a record of its files tells Lepton's own from what others put or changed there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from shutil import copytree, rmtree
from uuid import uuid4

from lepton_plugins.errors import PlaceTaken, PlaceUnwritable
from lepton_plugins.folder_swap import take_place

#: As `sha256sum` writes it, so that `sha256sum -c` reads it.
RECORD = Path(".lepton-generated")


def write_record(folder: Path, files: Sequence[Path]) -> Path:
    """Record what was rendered into `folder`; returns the record's own path in it."""
    lines = [f"{_digest(folder / file)}  {file.as_posix()}\n" for file in sorted(files)]
    (folder / RECORD).write_text("".join(lines), encoding="utf-8")
    return RECORD


def rendered_before(folder: Path) -> bool:
    """Whether `folder` holds what was rendered before, and nothing else; False where it is empty or missing.

    PlaceTaken where there is something that rendering anew would lose.
    """
    if not folder.exists():
        return False
    if not folder.is_dir():
        raise PlaceTaken(folder, "a file")
    there = sorted(path.name for path in folder.iterdir())
    if not there:
        return False
    try:
        lines = (folder / RECORD).read_text(encoding="utf-8").splitlines()
        recorded = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (OSError, UnicodeDecodeError):
        raise PlaceTaken(folder, f"{', '.join(there[:3])}{' …' if len(there) > 3 else ''}") from None
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
    mine = {name: path for name, path in found.items() if path.parent.name != "__pycache__" and name != RECORD.name}
    added = sorted(mine.keys() - recorded)
    changed = sorted(name for name in mine.keys() & recorded.keys() if _digest(mine[name]) != recorded[name])
    if added or changed:
        raise PlaceTaken(folder, "what was rendered there before", added, changed)
    return True


def put(rendered: Path, folder: Path) -> None:
    """Copy what was rendered into `folder`. PlaceUnwritable."""
    try:
        copytree(rendered, folder, dirs_exist_ok=True)
    except OSError as error:
        raise PlaceUnwritable(folder, error) from error


@contextmanager
def in_place_of(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which takes the place of `folder` at the end, in one step; where it fails all stays.

    It lies beside `folder`. An empty one that can't be replaced, such as a mounted one, is filled itself, and emptied
    again where that fails. PlaceTaken, PlaceUnwritable.
    """
    rendered_before(folder)
    place = folder.resolve()
    if _fixed(place):
        try:
            yield place
        except BaseException:
            for path in place.iterdir():  # All that is there is ours.
                rmtree(path) if path.is_dir() else path.unlink()
            raise
        return
    made = place.with_name(f".{place.name}-{uuid4().hex[:8]}")
    try:
        try:
            made.mkdir(parents=True)
        except OSError as error:
            raise PlaceUnwritable(folder, error) from error
        yield made
        rendered_before(folder)
        try:
            take_place(made, place)
        except OSError as error:
            raise PlaceUnwritable(folder, error) from error
    finally:
        rmtree(made, ignore_errors=True)


def _fixed(place: Path) -> bool:
    """Whether an empty folder stands there that can be filled, but not replaced."""
    if not place.is_dir() or any(place.iterdir()):
        return False
    return place.is_mount() or not os.access(place.parent, os.W_OK)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
