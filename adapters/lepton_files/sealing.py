"""Making Parquet of a file of lines in a process of its own: `python -m lepton_files.sealing FILE`.

In a thread it would keep requests waiting for the interpreter's lock, three seconds of processor for 90,000 decisions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lepton_files.parquet import seal

#: How long one file may take, in seconds.
_LONGEST = 300.0
#: Below the processes that answer.
_NICE = 10


def seal_apart(journal: Path) -> None:
    """As `seal`, in another process; here where none can be started."""
    # What this process can import the other one can, too, wherever a host has put the packages.
    paths = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, "-m", "lepton_files.sealing", str(journal)]
    try:
        done = subprocess.run(
            command,
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_LONGEST,
        )
    except (OSError, subprocess.TimeoutExpired):
        done = None
    if done is None or done.returncode:
        seal(journal)


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(_NICE)
    seal(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
