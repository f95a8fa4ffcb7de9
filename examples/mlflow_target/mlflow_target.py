"""The quickstart's plan as a model in MLflow: registered, loaded by name, asked who answers.

lepton quickstart
python examples/mlflow_target/mlflow_target.py lepton-quickstart/deployment sqlite:///lepton-quickstart/mlflow.db
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow

from lepton_plugins import ModelRegistry
from lepton_plugins.quickstart.flights import INPUTS, TRAFFIC, in_period, load_flights


def main(deployment: Path, registry_uri: str) -> None:
    registry = ModelRegistry(registry_uri)

    # Rendered: versions, plan, merged requirements and Lepton itself; registered as flights-router.
    with TemporaryDirectory() as folder:
        registry.generate(deployment, "mlflow", Path(folder) / "model", {"register": True})
    newest = registry.list_versions("flights-router")[-1]
    print(f"registered as models:/flights-router/{newest.version}")

    # From here on it is a model like any other; nothing needs Lepton installed.
    mlflow.set_tracking_uri(registry_uri)
    model = mlflow.pyfunc.load_model(f"models:/flights-router/{newest.version}")
    november = in_period(load_flights(), TRAFFIC[0])[list(INPUTS)].head(1000)
    print(f"answered {len(model.predict(november))} flights")

    # With the parameter, each answer comes with the version that gave it.
    told = model.predict(november, params={"lepton_decisions": True})
    print(told.groupby(["lepton_version", "lepton_reason"]).size().sort_values(ascending=False).head(8).to_string())


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2])
