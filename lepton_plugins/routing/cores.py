"""How much of the machine's processor this process may use: what a container was given, not what the host has.

Source: Linux, Documentation/admin-guide/cgroup-v2.rst (cpu.max) and scheduler/sched-bwc.rst (version 1).
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")


@cache
def available_cores(cgroups: Path = _CGROUPS) -> float:
    """Cores, fractions of one included: those it may run on, as far as its control group's quota reaches."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroups)
    return min(cores, quota) if quota is not None else float(cores)


def whole_cores(processes: int = 1) -> int:
    """The cores of one of so many processes that share them alike: at least one."""
    return max(int(available_cores() / processes), 1)


def _quota(cgroups: Path) -> float | None:
    """The quota in cores; None where there is none."""
    try:
        if (file := cgroups / "cpu.max").exists():
            quota, period = file.read_text().split()
        else:
            quota = (cgroups / "cpu" / "cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu" / "cpu.cfs_period_us").read_text()
        # Without a limit version 2 says "max", version 1 -1.
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
