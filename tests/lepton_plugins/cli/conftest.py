"""The command line on a real registry: three ONNX versions of a model, evaluated by carrier."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lepton_plugins.cli.main import main

PLAN = """
model: flights
policy: {kind: segment_best, params: {by: [carrier]}}
around: {sticky: {key: customer}}
"""


class Ran(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Flights:
    """Files to work with, and a registry that knows them."""

    folder: Path
    uri: str

    @property
    def data(self) -> Path:
        return self.folder / "june.parquet"

    @property
    def plan(self) -> Path:
        return self.folder / "plan.yaml"

    def model(self, number: int) -> Path:
        return self.folder / f"model{number}.onnx"


@pytest.fixture
def lepton(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process."""

    def run(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def made_flights(mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Flights:
    """Made once: version 1 knows everything a little, 2 is good on UA, 3 on DL; nobody is on 9E."""
    import pandas as pd
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType
    from sklearn.compose import ColumnTransformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    folder = tmp_path_factory.mktemp("flights")
    generator = np.random.default_rng(0)

    def flights(rows: int) -> pd.DataFrame:
        carrier = generator.choice(["UA", "DL", "9E"], rows)
        inputs = generator.normal(size=(rows, 2)).astype("float32")
        weights = np.select(
            [(carrier == "UA")[:, None], (carrier == "DL")[:, None]], [[[1.5, 0.0]], [[0.0, 1.5]]], [[1.0, 1.0]]
        )
        late = generator.random(rows) < 1 / (1 + np.exp(-(inputs * weights).sum(axis=1)))
        return pd.DataFrame({"wind": inputs[:, 0], "delay": inputs[:, 1], "carrier": carrier, "late": late.astype(int)})

    train = flights(4000)
    for number, part in enumerate([train, train[train.carrier == "UA"], train[train.carrier == "DL"]], 1):
        columns = ["wind", "delay"]
        pipeline = make_pipeline(ColumnTransformer([("all", "passthrough", columns)]), LogisticRegression())
        pipeline.fit(part[columns], part.late)
        kinds = [(name, FloatTensorType([None, 1])) for name in columns]
        graph = to_onnx(pipeline, initial_types=kinds, options={id(pipeline): {"zipmap": False}})
        (folder / f"model{number}.onnx").write_bytes(graph.SerializeToString())
    flights(4000).to_parquet(folder / "june.parquet")
    flights(200).drop(columns="late").to_csv(folder / "july.csv", index=False)
    (folder / "plan.yaml").write_text(PLAN)
    shutil.copyfile(mlflow_template, folder / "mlflow.db")
    with closing(sqlite3.connect(folder / "mlflow.db")) as database, database:
        database.execute("UPDATE experiments SET artifact_location = ?", (f"{folder}/mlruns/0",))
    made = Flights(folder, f"sqlite:///{folder / 'mlflow.db'}")
    for number in (1, 2, 3):
        register = ["register", "flights", str(made.model(number)), "--framework", "onnx", "--label", f"v{number}"]
        assert main([*register, "--registry", made.uri, "-q"]) == 0
    evaluate = ["evaluate", "flights", "--data", str(made.data), "--target", "late", "--task", "classification"]
    assert main([*evaluate, "--slice", "carrier", "--no-cost", "-q", "--registry", made.uri]) == 0
    return made


@pytest.fixture
def flights(made_flights: Flights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Flights:
    """The same with a database of this test's own, the default one; the files behind it are shared."""
    database = tmp_path / "mlflow.db"
    shutil.copyfile(made_flights.folder / "mlflow.db", database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{database}")
    monkeypatch.chdir(tmp_path)
    return Flights(made_flights.folder, f"sqlite:///{database}")


@pytest.fixture
def promoted(lepton: Callable[..., Ran], flights: Flights) -> Flights:
    """With a plan in force."""
    assert lepton("plan", "flights", "-f", flights.plan, "--promote", "--why", "first").code == 0
    return flights
