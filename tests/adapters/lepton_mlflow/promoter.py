"""A process that promotes what it is told on stdin; `test_activations` runs several against each other."""

from __future__ import annotations

import json
import sys

import mlflow  # noqa: F401  Imported before the race, not in it.

from lepton_mlflow.registry import MlflowRegistry
from lepton_plugins.errors import LeptonError
from lepton_plugins.records.plan import Activation

print("ready", flush=True)
for line in sys.stdin:
    order = json.loads(line)
    registry = MlflowRegistry(order["uri"])
    try:
        registry.activate(Activation.model_validate(order["activation"]), order["expected"], force=False)
        print("won", flush=True)
    except LeptonError as error:
        print(error.code, flush=True)
