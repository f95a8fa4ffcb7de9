"""The tag that records a version's artefact digest, and that shows when it was copied from another version."""

from __future__ import annotations

import json
from collections.abc import Mapping

from lepton_mlflow.names import DIGEST


def digest_tag(model: str, version: str, digest: str) -> str:
    """The tag's value. Model and version stand inside: `copy_model_version` copies tags as they are."""
    return json.dumps({"model": model, "version": version, "digest": digest}, sort_keys=True)


def recorded_digest(model: str, version: str, tags: Mapping[str, str]) -> str | None:
    """The digest recorded for this very version; None if none is, or if the tag is another's."""
    value = _read(tags)
    return value["digest"] if value and (value["model"], value["version"]) == (model, version) else None


def is_copy(model: str, version: str, tags: Mapping[str, str]) -> bool:
    """Whether the tags speak of another version."""
    value = _read(tags)
    return value is not None and (value["model"], value["version"]) != (model, version)


def _read(tags: Mapping[str, str]) -> dict[str, str] | None:
    try:
        value = json.loads(tags[DIGEST])
        return {key: str(value[key]) for key in ("model", "version", "digest")}
    except (KeyError, TypeError, ValueError):
        return None
