"""Amounts as people write them: bytes in binary units, cores, devices."""

from __future__ import annotations


def amount(resource: str, value: float) -> str:
    """`4 cores`, `3.2 GiB`, `2 GPUs`: an amount of a budgeted resource."""
    if resource in ("memory", "gpu_memory"):
        return size(value)
    unit = {"cpu": "core", "gpu": "GPU"}[resource]
    return f"{value:.4g} {unit}" + ("" if value == 1 else "s")


def size(value: float) -> str:
    """Bytes in the largest binary unit that keeps the figure above one."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return f"{value:.4g} {unit}"
        value /= 1024
    return f"{value:.4g} TiB"
