"""The quickstart's steps through the Python API, on a registry of your choice.

python examples/flights/flights.py sqlite:///mlflow.db
python examples/flights/flights.py http://localhost:5000
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

from lepton_plugins import ModelRegistry
from lepton_plugins.evaluation.row_metrics import row_values
from lepton_plugins.quickstart.flights import EVALUATION, INPUTS, TARGET, TRAFFIC, in_period, load_flights
from lepton_plugins.quickstart.versions import RECIPES, export, train

MODEL = "flights"
PLAN = Path(__file__).with_name("plan.yaml")


def main(registry_uri: str | None, sample: float = 1.0) -> None:
    registry = ModelRegistry(registry_uri)
    flights = load_flights().iloc[:: round(1 / sample)]

    # Three versions: any ONNX file will do, and any other framework that MLflow knows.
    with TemporaryDirectory() as folder:
        for recipe in RECIPES:
            path = Path(folder) / f"{recipe.label}.onnx"
            export(train(recipe, flights), path)
            description = {"description": recipe.summary}
            registry.register_model(MODEL, path, recipe.label, "onnx", description)

    # The evidence: every version on the same flights, which none of them has seen, overall and by carrier.
    unseen = in_period(flights, EVALUATION)
    registry.evaluate(MODEL, unseen, target=TARGET, task="classification", slices=["carrier"])
    print(registry.compare(MODEL, by="carrier"))

    # The plan: which version answers where. It is in force once it is promoted.
    planned = registry.plan(PLAN)
    print(planned.summary)
    registry.promote(MODEL, why="first plan")

    # The router answers each flight with the version that the plan chooses for it.
    later = in_period(flights, TRAFFIC[0])
    labels = later[TARGET].astype(str).to_numpy()
    router = registry.router(MODEL)
    try:
        print(router.explain(later[list(INPUTS)].iloc[0].to_dict()))
        for version in (None, *(arm.version for arm in router.plan.arms)):
            answers = router.predict(later[list(INPUTS)], version=version).values
            loss = row_values("log_loss", labels, answers, router.plan.classes).mean()
            print(f"{TRAFFIC[0]}, {'routed' if version is None else f'version {version} alone'}: log loss {loss:.4f}")
    finally:
        router.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", nargs="?", help="address of an MLflow registry (default: MLflow's own setting)")
    parser.add_argument("--sample", type=float, default=1.0, help="part of the flights to use (default: all)")
    arguments = parser.parse_args()
    main(arguments.registry, arguments.sample)
