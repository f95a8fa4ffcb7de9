"""Kinds of accelerators: their memory, the resource that Kubernetes knows them by, their MIG profiles."""

from __future__ import annotations

from lepton_plugins.records.record import Record


class MigProfile(Record):
    """A part of a device, isolated from the others. `memory` in bytes."""

    name: str
    memory: int
    key: str


class Accelerator(Record):
    """A kind of device. `memory` in bytes, `key` such as nvidia.com/gpu."""

    name: str
    memory: int
    key: str
    mig: tuple[MigProfile, ...] = ()
