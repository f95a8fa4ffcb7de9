"""The memory that a process has used."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def peak_memory() -> int:
    """This process's largest resident size so far, in bytes.

    On Linux from /proc: `ru_maxrss` survives exec, so that a child would report its parent's size.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def gpu_memory() -> int | None:
    """Bytes of GPU memory that this process holds, by nvidia-smi; None without a GPU or where it can't tell."""
    try:
        listed = subprocess.run(
            ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    total = 0
    for line in listed.splitlines():
        pid, _, used = line.partition(",")
        if pid.strip() == str(os.getpid()) and used.strip().isdigit():
            total += int(used) * 2**20
    return total
