"""What a benchmark takes from its command line."""

from __future__ import annotations

import argparse
import signal
import sys


def parser(doc: str | None) -> argparse.ArgumentParser:
    """A parser whose `--help` shows the benchmark's docstring; one that is ended takes its servers with it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    return argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
