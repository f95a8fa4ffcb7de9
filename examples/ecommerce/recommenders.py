"""Two recommenders of films as ONNX, both from a user and an item to the rating that is expected.

A, collaborative: what the user thought of the items that are liked by the same people (item-item, Sarwar et al. 2001).
B, content-based: how much the user likes each genre; it knows nothing of the other users' taste.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
from onnx import TensorProto, helper, numpy_helper

NEIGHBOURS, SHRINKAGE, RIDGE = 40, 25.0, 10.0


def load_ratings() -> tuple[pd.DataFrame, np.ndarray]:
    """ML-100k as RecBole carries it: ratings in the users' order of time, and the items' genres (items, genres).

    Its licence allows research and no redistribution: it is read where it lies. `pip install --no-deps recbole`
    """
    spec = find_spec("recbole")
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit("The ratings come with RecBole: pip install --no-deps recbole")
    folder = Path(next(iter(spec.submodule_search_locations))) / "dataset_example" / "ml-100k"
    ratings = pd.read_csv(folder / "ml-100k.inter", sep="\t", names=["user", "item", "rating", "time"], skiprows=1)
    items = pd.read_csv(folder / "ml-100k.item", sep="\t", names=["item", "title", "year", "genres"], skiprows=1)
    genres = items.set_index("item")["genres"].fillna("").str.get_dummies(sep=" ")
    matrix = np.zeros((int(max(ratings["item"].max(), items["item"].max())) + 1, genres.shape[1]))
    matrix[genres.index] = genres.to_numpy()
    return ratings.sort_values(["user", "time", "item"], ignore_index=True), matrix


def split(ratings: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Each user's first 70 % to learn from, the next 15 % to evaluate on, the last 15 % to come."""
    place = ratings.groupby("user").cumcount() / ratings.groupby("user")["user"].transform("size")
    return ratings[place < 0.7], ratings[(place >= 0.7) & (place < 0.85)], ratings[place >= 0.85]


def collaborative(learn: pd.DataFrame, users: int, items: int, path: Path) -> None:
    """Version A: the baseline of user and item, plus the weighted mean of what the user left over it nearby."""
    known = np.zeros((users, items), dtype=np.float32)
    known[learn["user"], learn["item"]] = 1
    mean, of_user, of_item = _baseline(learn, users, items)
    left = np.zeros((users, items))
    left[learn["user"], learn["item"]] = learn["rating"] - mean - of_user[learn["user"]] - of_item[learn["item"]]
    norm = np.sqrt(np.square(left).sum(axis=0)) + 1e-9
    together = known.T @ known
    similar = (left.T @ left) / np.outer(norm, norm) * together / (together + SHRINKAGE)
    np.fill_diagonal(similar, 0)
    least = np.partition(similar, -NEIGHBOURS, axis=1)[:, [-NEIGHBOURS]]
    similar = np.where((similar >= least) & (similar > 0), similar, 0)
    constants = {"left": left, "known": known, "similar": similar, "of_user": of_user + mean, "of_item": of_item}
    nodes = [
        helper.make_node("Gather", ["left", "u"], ["l"]),
        helper.make_node("Gather", ["known", "u"], ["k"]),
        helper.make_node("Gather", ["similar", "i"], ["s"]),
        helper.make_node("Mul", ["l", "s"], ["ls"]),
        helper.make_node("Mul", ["k", "s"], ["ks"]),
        helper.make_node("ReduceSum", ["ls", "axis"], ["above"], keepdims=0),
        helper.make_node("ReduceSum", ["ks", "axis"], ["below"], keepdims=0),
        helper.make_node("Add", ["below", "little"], ["whole"]),
        helper.make_node("Div", ["above", "whole"], ["near"]),
        helper.make_node("Gather", ["of_user", "u"], ["bu"]),
        helper.make_node("Gather", ["of_item", "i"], ["bi"]),
        helper.make_node("Sum", ["near", "bu", "bi"], ["rating"]),
    ]
    _save(nodes, constants, path)


def content_based(learn: pd.DataFrame, genres: np.ndarray, users: int, path: Path) -> None:
    """Version B: the user's mean, what everybody thinks of the genres, and how the user differs (ridge)."""
    mean = float(learn["rating"].mean())
    of_user = _drawn(learn, "user", learn["rating"] - mean, users)
    left = learn.assign(left=learn["rating"] - mean - of_user[learn["user"]])

    def ridge(own: pd.DataFrame, known: np.ndarray) -> np.ndarray:
        films = genres[own["item"]]
        target = own["left"].to_numpy() - films @ known
        return known + np.linalg.solve(films.T @ films + RIDGE * np.eye(films.shape[1]), films.T @ target)

    everybody = ridge(left, np.zeros(genres.shape[1]))
    taste = np.tile(everybody, (users, 1))
    for user, own in left.groupby("user"):
        taste[user] = ridge(own, everybody)
    nodes = [
        helper.make_node("Gather", ["taste", "u"], ["t"]),
        helper.make_node("Gather", ["genres", "i"], ["g"]),
        helper.make_node("Mul", ["t", "g"], ["tg"]),
        helper.make_node("ReduceSum", ["tg", "axis"], ["liked"], keepdims=0),
        helper.make_node("Gather", ["of_user", "u"], ["bu"]),
        helper.make_node("Add", ["liked", "bu"], ["rating"]),
    ]
    _save(nodes, {"taste": taste, "genres": genres, "of_user": of_user + mean}, path)


def _baseline(learn: pd.DataFrame, users: int, items: int) -> tuple[float, np.ndarray, np.ndarray]:
    """Overall mean, and how far users and items are from it, drawn to zero where there is little."""
    mean = float(learn["rating"].mean())
    of_item = _drawn(learn, "item", learn["rating"] - mean, items)
    of_user = _drawn(learn, "user", learn["rating"] - mean - of_item[learn["item"]], users)
    return mean, of_user, of_item


def _drawn(learn: pd.DataFrame, by: str, values: pd.Series, size: int) -> np.ndarray:
    """Means by user or item, shape (size,), drawn to zero where there are few ratings."""
    return np.bincount(learn[by], values, minlength=size) / (np.bincount(learn[by], minlength=size) + 5)


def _save(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], path: Path) -> None:
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["n", 1]) for name in ("user", "item")]
    first = [
        helper.make_node("Squeeze", ["user", "axis"], ["u"]),
        helper.make_node("Squeeze", ["item", "axis"], ["i"]),
    ]
    fixed = {name: value.astype(np.float32) for name, value in constants.items()}
    fixed["little"] = np.float32(0.5).reshape(())
    tensors = [numpy_helper.from_array(value, name) for name, value in fixed.items()]
    tensors.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "axis"))
    output = [helper.make_tensor_value_info("rating", TensorProto.FLOAT, ["n"])]
    graph = helper.make_graph([*first, *nodes], path.stem, inputs, output, tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
