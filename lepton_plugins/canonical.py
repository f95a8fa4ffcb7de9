"""Canonical JSON and digests: the same value gives the same bytes on every machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel

#: Written differently by MLflow depending on the URI a model was downloaded through, or by Python.
_UNSTABLE_NAMES = frozenset({"registered_model_meta"})
_UNSTABLE_FOLDERS = frozenset({"__pycache__"})


def canonical_json(value: BaseModel | Mapping[str, Any]) -> bytes:
    """UTF-8 JSON with sorted keys and no white space; NaN and infinity are refused (ValueError)."""
    plain = value.model_dump(mode="json") if isinstance(value, BaseModel) else value
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest_bytes(data: bytes) -> str:
    """`sha256:<hex>` of some bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def digest_json(value: BaseModel | Mapping[str, Any]) -> str:
    """`sha256:<hex>` of a value's canonical JSON."""
    return digest_bytes(canonical_json(value))


def digest_tree(path: Path) -> str:
    """`sha256:<hex>` over the relative paths and bytes of a model's files.

    A single file counts as a directory that holds just that file. Files that MLflow or Python
    write differently from one download to the next are left out. Links are followed as files; a link
    that leads out of the tree raises ValueError, since its target isn't part of the artefact.
    """
    root = path if path.is_dir() else path.parent
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    resolved_root = root.resolve()
    total = hashlib.sha256()
    for file in files:
        relative = file.relative_to(root)
        if relative.name in _UNSTABLE_NAMES or _UNSTABLE_FOLDERS & set(relative.parts):
            continue
        if not file.resolve().is_relative_to(resolved_root):
            raise ValueError(f"{relative} is a link that leads out of the model's directory")
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256")
        name = relative.as_posix().encode()
        # Lengths first, so that no two different trees give the same stream of bytes.
        total.update(len(name).to_bytes(8, "big") + name + content.digest())
    return "sha256:" + total.hexdigest()
