"""A `lepton serve` process for as long as it is needed, ended by its process id."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lepton_plugins.errors import ServerNotStarted

_READY_SECONDS = 60.0
_END_SECONDS = 15.0
_RUN_LEPTON = "import sys; from lepton_plugins.cli.main import main; sys.exit(main())"


@contextmanager
def serving(directory: Path, log: Path, decisions: Path) -> Iterator[str]:
    """Serve a deployment directory on a free loopback port; gives the address, such as http://127.0.0.1:40713.

    What the process writes goes to `log`; decisions and feedback are kept in `decisions`. Raises
    ServerNotStarted with the end of the log. The process has ended when the block is left, by an exception
    or Ctrl-C too.
    """
    command = [sys.executable, "-c", _RUN_LEPTON, "serve", str(directory), "--host", "127.0.0.1", "--port", "0"]
    command += ["--decisions", decisions.as_uri()]
    # A session of its own: Ctrl-C reaches us alone, and we end the process when we have finished with it.
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield _address(process, log)
    finally:
        _end(process)


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + _READY_SECONDS
    while time.monotonic() < deadline:
        written = log.read_text(errors="replace")
        # Only a whole line: its end could still be missing.
        if found := re.search(r" at (http://\S+:\d+)\b.*\n", written):
            return found[1]
        if process.poll() is not None:
            raise ServerNotStarted(
                f"it ended with exit code {process.returncode}", log.read_text(errors="replace"), log
            )
        time.sleep(0.02)
    raise ServerNotStarted(f"it wasn't ready after {_READY_SECONDS:.0f} s", log.read_text(errors="replace"), log)


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM lets it answer what it has accepted and flush its decisions."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
