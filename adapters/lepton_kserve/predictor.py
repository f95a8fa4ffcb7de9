"""The predictor's process: the data plane on the folder that the pod mounts. `python -m lepton_kserve.predictor`."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lepton_plugins.errors import LeptonError
from lepton_plugins.serving.limiting import limits_from
from lepton_plugins.serving.run import serve
from lepton_plugins.serving.settings import ServingSettings, token_from


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM; an error is one line and exit code 2. The token is LEPTON_TOKEN."""
    parser = argparse.ArgumentParser(prog="lepton_kserve.predictor", description=__doc__)
    parser.add_argument("--deployment", type=Path, required=True)
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8080)
    parser.add_argument("--decisions")
    parser.add_argument("--learning")
    parser.add_argument("--allowed-host", action="append", default=[])
    parser.add_argument("--alias", action="append", default=[], help="a further name of the model")
    given = parser.parse_args(arguments)
    try:
        settings = ServingSettings(
            host=given.host,
            token=token_from(os.environ),
            allowed_hosts=tuple(given.allowed_host),
            aliases=tuple(given.alias),
            decisions=given.decisions,
            learning=given.learning,
            limits=limits_from(os.environ),
        )
        serve(given.deployment, given.host, given.port, settings=settings)
    except LeptonError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
