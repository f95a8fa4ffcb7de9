"""A shop's two recommenders, combined: wA = 0.7 for the collaborative one, wB = 0.3 for the content-based one.

pip install --no-deps recbole
python examples/ecommerce/ecommerce.py sqlite:///mlflow.db
"""

from __future__ import annotations

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from recommenders import collaborative, content_based, load_ratings, split

from lepton_plugins import ModelRegistry

MODEL = "shop"
PLAN = Path(__file__).with_name("plan.yaml")


def main(registry_uri: str | None) -> None:
    registry = ModelRegistry(registry_uri)
    ratings, genres = load_ratings()
    learn, evaluate, later = split(ratings)
    users, items = int(ratings["user"].max()) + 1, len(genres)
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / "collaborative.onnx", Path(folder) / "content_based.onnx"]
        collaborative(learn, users, items, paths[0])
        content_based(learn, genres, users, paths[1])
        for label, path in zip(("A", "B"), paths, strict=True):
            registry.register_model(MODEL, path, label, "onnx", {"description": path.stem})
    registry.evaluate(MODEL, evaluate[["user", "item", "rating"]], target="rating", task="regression")
    # What the evaluation itself would weigh them by, and what it expects of the given weights.
    stacked = registry.plan(
        {"model": MODEL, "default": "1", "policy": {"kind": "ensemble", "params": {"how": "stacked"}}}
    )
    print("fitted weights:", dict(stacked.plan.policy.document["weights"]), stacked.verdict)
    planned = registry.plan(PLAN)
    print("given weights:", dict(planned.plan.policy.document["weights"]), planned.verdict)
    registry.promote(MODEL, why="A and B together")
    router = registry.router(MODEL)
    try:
        truth = later["rating"].to_numpy()
        for name, version in (("A alone", "1"), ("B alone", "2"), ("0.7 A + 0.3 B", None)):
            answers = router.predict(later[["user", "item"]], version=version)
            print(f"later ratings, {name}: mean squared error {np.square(answers.values - truth).mean():.4f}")
        print(f"why: {router.explain({}).reason}")
    finally:
        router.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("registry", nargs="?", help="address of an MLflow registry (default: MLflow's own setting)")
    main(parser.parse_args().registry)
