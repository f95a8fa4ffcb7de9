"""The three versions: what ONNX answers is what scikit-learn answers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from lepton_plugins.quickstart.flights import EVALUATION, INPUTS, in_period
from lepton_plugins.quickstart.versions import RECIPES, Recipe, deviation, export, train


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_the_exported_file_gives_the_same_probabilities(recipe: Recipe, flights: pd.DataFrame, tmp_path: Path) -> None:
    import onnxruntime

    pipeline = train(recipe, flights)
    path = tmp_path / "model.onnx"
    export(pipeline, path)
    rows = in_period(flights, EVALUATION)
    # Names that the training hasn't seen are answered too, and alike.
    strange = rows.head(500).assign(carrier="XX", dest="XXX")
    assert deviation(pipeline, path, pd.concat([rows, strange], ignore_index=True)) < 1e-5
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == list(INPUTS)
    assert [entry.name for entry in session.get_outputs()] == ["label", "probabilities"]


def test_training_is_repeatable(flights: pd.DataFrame, tmp_path: Path) -> None:
    some = flights.iloc[::20]
    files = []
    for name in ("a", "b"):
        export(train(RECIPES[1], some), tmp_path / name)
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
