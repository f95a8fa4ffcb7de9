"""A version of a registered model."""

from __future__ import annotations

from lepton_plugins.records.record import Record, VersionNumber
from lepton_plugins.records.signature import Signature


class ModelVersion(Record):
    """A model version as its registry knows it.

    `version` is the registry's own number, `label` the user's name for it ("v1"). `artifact_digest`
    (`canonical.digest_tree`) is None until Lepton has seen the files: when they are registered or
    evaluated. It proves integrity; trust is write access to the registry.
    """

    model: str
    version: VersionNumber
    label: str | None = None
    framework: str | None = None
    flavors: tuple[str, ...] = ()
    uri: str
    """Where the files are, as a URI that names this one version for good (never an alias)."""
    source: str | None = None
    """The address of the files behind `uri`, where the registry tells it."""
    signature: Signature | None = None
    metadata: dict[str, str] = {}
    artifact_digest: str | None = None
    aliases: tuple[str, ...] = ()
    description: str | None = None
    run_id: str | None = None
    status: str = "READY"
