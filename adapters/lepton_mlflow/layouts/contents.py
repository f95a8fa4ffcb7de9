"""What a model's file is by its bytes: no code of it is run, and no framework is needed to tell."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import mmap
import pickletools
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from lepton_plugins.errors import FrameworkMismatch

#: Bytes that are looked at where a file needn't be read whole.
_HEAD = 1 << 20
#: A message of so many fields at its top isn't looked at further.
_MOST_FIELDS = 100_000

_ZIP, _HDF, _LZ4 = b"PK\x03\x04", b"\x89HDF", b"\x04\x22\x4d\x18"
_GZIP, _BZ2, _XZ, _LZMA = b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x5d\x00\x00"

#: ModelProto's field with the graph, SavedModel's with the graphs.
_ONNX_GRAPH, _META_GRAPHS = 7, 2
#: Entries of which an archive of torch has at least one: torch.save, TorchScript, its first form, exported programs.
_TORCH_ENTRIES = ("data.pkl", "constants.pkl", "model.json", "archive_format", "serialized_exported_program.json")


def require(fits: bool, path: Path, framework: str, expected: str) -> None:
    """FrameworkMismatch, with what the file is instead, unless it fits."""
    if not fits:
        raise FrameworkMismatch(path, framework, found(path), expected)


def found(path: Path) -> str:
    """A few words for what a file is."""
    head = _head(path, 4096)
    if not head:
        return "an empty file"
    for magic, words in ((_ZIP, "a zip archive"), (_HDF, "an HDF5 file"), (b"\x80", "a pickle")):
        if head.startswith(magic):
            return words
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        text = head[: error.start].decode() if error.start > len(head) - 4 else ""
    if text and all(character.isprintable() or character in "\r\n\t\f" for character in text):
        line = next((line for line in text.splitlines() if line.strip()), "")
        return f"a text file ({line[:30]!r})"
    if is_onnx(path):
        return "an ONNX graph"
    return f"a file that starts with the bytes {head[:8].hex(' ')}"


def is_pickle(path: Path) -> bool:
    """Whether pickle or joblib may have written it; of a long file its beginning says so."""
    head = _head(path, _HEAD)
    whole = len(head) < _HEAD
    if head.startswith(_LZ4):
        return True  # Its package isn't ours: what is inside can't be told.
    opened = _decompressed(head)
    if opened is not None:
        return _starts_pickle(opened, whole=False)
    return _starts_pickle(head, whole=whole)


def is_skops(path: Path) -> bool:
    return _has_entry(path, ("schema.json",))


def is_torch(path: Path) -> bool:
    """An archive of torch, or a pickle: as torch before 1.6 wrote, or a whole model by pickle itself."""
    head = _head(path, 512)
    if head.startswith(_ZIP):
        return path.suffix == ".pt2" or _has_entry(path, _TORCH_ENTRIES)
    return head.startswith(b"\x80") or head[257:262] == b"ustar"


def is_keras(path: Path) -> bool:
    return _head(path, 4).startswith((_ZIP, _HDF) if path.suffix == ".keras" else _HDF)


def is_saved_model(graph: Path) -> bool:
    return _META_GRAPHS in _fields(graph)


def is_onnx(path: Path) -> bool:
    """A graph, or ONNX Runtime's own format of one."""
    return _head(path, 8)[4:] == b"ORTM" or _ONNX_GRAPH in _fields(path)


def is_xgboost(path: Path) -> bool:
    """JSON or UBJSON; of other names the binary format of old, which has no mark of its own."""
    head = _head(path, 4096).lstrip()
    if path.suffix == ".json":
        return head.startswith(b"{") and _contains(path, b'"learner"')
    if head.startswith((b"{", b"binf")):
        return True
    return path.suffix != ".ubj" and found(path).startswith("a file that")


def is_lightgbm(path: Path) -> bool:
    return _head(path, 4) == b"tree"


def is_catboost(path: Path) -> bool:
    return _head(path, 4) == b"CBM1"


def _head(path: Path, size: int) -> bytes:
    with path.open("rb") as stream:
        return stream.read(size)


def _contains(path: Path, part: bytes) -> bool:
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return content.find(part) >= 0


def _has_entry(path: Path, names: Iterable[str]) -> bool:
    """Whether a zip archive has a file of such a name; one whose list of files can't be read isn't judged."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(entry.rpartition("/")[2] in names for entry in archive.namelist())
    except (zipfile.BadZipFile, OSError):
        return _head(path, 4) == _ZIP


def _decompressed(head: bytes) -> bytes | None:
    """The beginning of what joblib compressed; None if nothing did, empty if it can't be read."""
    # RFC 1950, 2.2: the first two bytes of a zlib stream are a multiple of 31.
    if head[:1] == b"\x78" and len(head) > 1 and int.from_bytes(head[:2], "big") % 31 == 0:
        try:
            return zlib.decompressobj().decompress(head, _HEAD)
        except zlib.error:
            return b""
    for magic, opened in ((_GZIP, gzip.open), (_BZ2, bz2.open), (_XZ, lzma.open), (_LZMA, lzma.open)):
        if head.startswith(magic):
            try:
                with opened(io.BytesIO(head), "rb") as stream:
                    return bytes(stream.read(4096))
            except (OSError, EOFError, lzma.LZMAError, zlib.error):
                return b""
    return None


def _starts_pickle(head: bytes, *, whole: bool) -> bool:
    """Whether the bytes are read as opcodes: to the end, unless the file goes on or joblib's raw arrays follow."""
    seen = 0
    try:
        for _ in pickletools.genops(head):
            seen += 1
    except Exception:  # Of an opcode's argument, whatever its own reader raises.
        cut = not whole or b"joblib.numpy_pickle" in head
        # Without the mark of protocol 2 and later, a few letters of any text are opcodes too.
        return cut and seen > (1 if head.startswith(b"\x80") else 20)
    return seen > 1


def _fields(path: Path) -> set[int]:
    """The field numbers at the top of a protobuf message; none if the bytes aren't one.

    https://protobuf.dev/programming-guides/encoding: a tag is the number and the kind of what follows it.
    """
    numbers: set[int] = set()
    size = path.stat().st_size
    with path.open("rb") as stream:
        for _ in range(_MOST_FIELDS):
            if stream.tell() == size:
                break
            tag = _varint(stream)
            kind = None if tag is None or tag >> 3 == 0 else tag & 7
            length = {0: 0, 1: 8, 5: 4}.get(-1 if kind is None else kind)
            if kind in (0, 2):
                length = _varint(stream) if kind == 2 else 0 if _varint(stream) is not None else None
            if tag is None or length is None or stream.tell() + length > size:
                return set()
            numbers.add(tag >> 3)
            stream.seek(length, io.SEEK_CUR)
    return numbers


def _varint(stream: BinaryIO) -> int | None:
    value = 0
    for shift in range(0, 70, 7):
        byte = stream.read(1)
        if not byte:
            return None
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    return None
