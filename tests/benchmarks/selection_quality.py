"""Do policies beat the best single version, and at which cost? Eleven real tasks, each in three parts.

    PYTHONPATH=DIR python tests/benchmarks/selection_quality.py [--tasks flights,churn] [--picture FILE.png]

Each task is registered, evaluated and planned on its second part; every plan is promoted, pulled and answers the
third part, which nothing has seen, through the Router. The best single version is the one that turns out best on
the held-out part: what one would have to know beforehand. A row's cost is the model time of a row for each version that
was asked, plus the policy's own time: once for requests of one row, where much of a call is no version's own, and once
for requests of 500 rows. It is processor time, the versions by turns, medians of nine, measured on the second part;
plans that go by it are told it (`cost`). Quality is the metric; `P` is utility as plans know it (0.5: no better
than a constant), `skill` the part of a constant's loss that is gone. What isn't reached is printed as it is.

Said before the held-out part was looked at: flights, ratings, reviews, digits, churn and credit have the versions that
they always had; earlier policies have been run on them. The other five are all tables of modeldata that aren't
simulated, have a class to predict, at least 4,000 rows and at most 100 columns, with what teams end up with: a linear
model, boosted trees, and these two stacked with a forest of 500 trees, all with scikit-learn's defaults.
`learned, 99 %` and `learned, half` read every column that the versions read but long texts, the other two some columns,
as always. `half` is a budget of 0.45: the rest of the half is for the policy itself.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from arguments import parser

os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "OMP_NUM_THREADS": "1"}

import numpy as np
import pandas as pd
from selection_tasks import TASKS, Task, build

from lepton_onnxruntime.backend import OnnxRuntimeBackend
from lepton_plugins import ModelRegistry
from lepton_plugins.errors import LeptonError
from lepton_plugins.evaluation import row_metrics
from lepton_plugins.evaluation.labels import class_codes
from lepton_plugins.evaluation.options import EvaluationOptions
from lepton_plugins.records.output import OutputKind
from lepton_plugins.replay.estimators import on_policy
from lepton_plugins.routing.backend import LoadedModel
from lepton_plugins.routing.directory import DeploymentDirectory
from lepton_plugins.routing.policy import Batch
from lepton_plugins.routing.router import Router
from lepton_plugins.routing.store import plain

CHUNK = 500
#: Turns of each version when its time is taken, and seconds of one; requests by which a policy's own is.
ROUNDS, TURN, REQUESTS = 9, 0.03, 100
#: Rows of a request, by which costs are told. Those measured are 1, 8, 64 and 512.
BATCHES = (1, 512)
METRIC = {"classification": "log_loss", "regression": "mse"}
#: Policies whose plan depends on the versions' costs.
BY_COST = ("cascade", "learned, ")
#: What a default's model time is worth in the metric, and the part of the dearest version's time that is half.
PRICE, HALF = 0.01, 0.45


def policies(task: Task) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if task.segment is not None:
        found["segment_best"] = {"kind": "segment_best", "params": {"by": [task.segment]}}
    if task.features:
        found["learned"] = {"kind": "learned", "params": {"features": list(task.features)}}
        found["learned, price"] = {"kind": "learned", "params": {"features": list(task.features), "price": PRICE}}
        every = list(dict.fromkeys((*task.features, *task.context)))
        found["learned, 99 %"] = {"kind": "learned", "params": {"features": every, "quality": 0.99}}
        found["learned, half"] = {"kind": "learned", "params": {"features": every, "budget": HALF}}
    if task.kind == "classification":
        for name, params in (("99 %", {"quality": 0.99}), ("half", {"budget": HALF}), ("best", {})):
            found[f"cascade, {name}"] = {"kind": "cascade", "params": params}
            found[f"cascade, blend, {name}"] = {"kind": "cascade", "params": params | {"blend": True}}
    found["ensemble, mean"] = {"kind": "ensemble", "params": {"how": "mean"}}
    found["ensemble, stacked"] = {"kind": "ensemble", "params": {"how": "stacked"}}
    return found


class HeldOut:
    """The rows that nothing has seen, and what a router does with them."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.data = task.held_out.drop(columns=task.target).reset_index(drop=True)
        self.truth = task.held_out[task.target].to_numpy()
        self.units = (
            np.unique(task.units, return_inverse=True)[1] if task.units is not None else np.arange(len(self.data))
        )

    def answers(self, router: Router, version: str | None = None) -> tuple[np.ndarray, dict[str, float]]:
        """Answers by row, and which part of the rows each version was run on."""
        before = {name: count.rows for name, count in router.counters.arms.items()}
        rows = given(self.data, router)
        parts = [
            router.predict(rows[begin : begin + CHUNK], version=version).values
            for begin in range(0, len(self.data), CHUNK)
        ]
        work = {
            name: (count.rows - before.get(name, 0)) / len(self.data) for name, count in router.counters.arms.items()
        }
        return np.concatenate(parts), work

    def losses(self, output: np.ndarray, classes: Sequence[str]) -> np.ndarray:
        if self.task.kind == "regression":
            return row_metrics.row_values("mse", self.truth, output)
        return row_metrics.classification_values("log_loss", class_codes(self.truth, classes), output)

    def policy_time(self, router: Router, outputs: Mapping[str, np.ndarray], rows: int) -> float:
        """Seconds a row that the policy itself takes in requests of so many rows, of which it knows the answers."""
        policy, many = router._decider.policy, min(rows, CHUNK)
        columns = self.data.assign(**{name: None for name in policy.features if name not in self.data})
        requests = []
        for begin in range(0, min(len(self.data) - many + 1, REQUESTS * many), many):
            part = columns[begin : begin + many]
            batch = Batch(
                many,
                {name: part[name].to_numpy() for name in policy.features},
                np.arange(begin, begin + many, dtype=np.uint64) << np.uint64(48),
            )
            one = {name: plain(column[0]) for name, column in batch.context.items()}
            requests.append((batch, one, [outputs[arm][begin : begin + many] for arm in policy.arms]))

        def each() -> None:
            for batch, one, known in requests:
                if many == 1:
                    policy.choose_one(one, int(batch.draws[0]))
                else:
                    policy.choose(batch)
                if policy.consults:
                    policy.consult(many, partial(_taken, known))

        return _processor_time(each) / len(requests) / many


def given(data: pd.DataFrame, router: Router) -> Any:
    """Rows as a request has them."""
    if router.signature.layout == "tensors":
        return data.to_numpy()
    signature = router.signature.input_names
    return data[[name for name in data.columns if name in signature]] if signature else data


def _taken(known: Sequence[np.ndarray], arm: int, index: np.ndarray | None) -> np.ndarray:
    return known[arm] if index is None else known[arm][index]


def _processor_time(run: Callable[[], None]) -> float:
    taken = []
    for _ in range(5):
        began = time.process_time()
        run()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def priced(spec: dict[str, Any], costs: Mapping[str, float]) -> dict[str, Any]:
    """A policy that goes by costs, with these, in microseconds."""
    params = spec.get("params", {})
    if spec["kind"] != "cascade" and not {"price", "quality", "budget"} & set(params):
        return spec
    return spec | {"params": params | {"cost": {version: round(1e6 * cost, 3) for version, cost in costs.items()}}}


def _fed(model: LoadedModel, columns: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Columns, or the one matrix that the version reads."""
    names = () if model.signature is None else model.signature.input_names
    if all(name in columns for name in names):
        return columns
    return {names[0]: np.column_stack(list(columns.values()))}


def model_times(router: Router, paths: Mapping[str, Path], rows: Any, kind: OutputKind) -> dict[int, dict[str, float]]:
    """Processor seconds a row of each version by batch size, by turns."""
    models = {version: OnnxRuntimeBackend().load(path) for version, path in paths.items()}
    found: dict[int, dict[str, float]] = {}
    for size in BATCHES:
        columns, _ = router._checker.columns_of(rows)
        batches = [
            router._checker.check({name: values[begin : begin + size] for name, values in columns.items()}, size)
            for begin in range(0, 8 * size if len(rows) >= 8 * size else size, size)
        ]
        taken: dict[str, list[float]] = {version: [] for version in models}
        for _ in range(ROUNDS):
            for version, model in models.items():
                fed = [_fed(model, batch) for batch in batches]
                model.predict(fed[0], kind)
                began, calls = time.process_time(), 0
                while time.process_time() < began + TURN:
                    model.predict(fed[calls % len(fed)], kind)
                    calls += 1
                taken[version].append((time.process_time() - began) / calls / size)
        found[size] = {version: statistics.median(times) for version, times in taken.items()}
    return found


def run(name: str, folder: Path) -> list[dict[str, Any]]:
    os.chdir(folder)  # MLflow keeps its artifacts below the folder that one is in.
    task = build(name, folder / "versions")
    held = HeldOut(task)
    registry = ModelRegistry(f"sqlite:///{folder / 'mlflow.db'}")
    for label, path in task.versions.items():
        registry.register_model(name, path, label, "onnx", {})
    slices = [task.segment] if task.segment is not None else []
    context = [column for column in task.context if column not in slices]
    reports = registry.evaluate(
        name, task.evaluate, target=task.target, task=task.kind, slices=slices, context=context,
        options=EvaluationOptions(cost_seconds=3.0),
    )  # fmt: skip
    for report in reports:
        if report.failure is not None:
            raise SystemExit(f"{name}: {report.failure}")
    labels = {report.version: report.label for report in reports}
    baseline = row_metrics.constant_loss(METRIC[task.kind], held.truth, _classes(task))
    evenly = {"kind": "weighted", "params": {"shares": {version: 1 / len(labels) for version in labels}}}
    registry.plan({"model": name, "policy": evenly})
    registry.promote(name, force=True)
    single = registry.pull(name, folder / "deployment-single")
    deployed = DeploymentDirectory.open(single)
    paths = {arm.version: deployed.model_path(arm) for arm in deployed.plan.arms}
    with Router.load(single) as router:
        outputs = {version: held.answers(router, version)[0] for version in labels}
        singles = {version: held.losses(output, router.classes) for version, output in outputs.items()}
        output_kind: OutputKind = "value" if task.kind == "regression" else "proba"
        times = model_times(router, paths, given(task.evaluate.drop(columns=task.target), router), output_kind)
    best = min(singles, key=lambda version: singles[version].mean())
    oracle = np.min(list(singles.values()), axis=0)
    results = []
    answered: dict[str, Any] = {}
    for batch in BATCHES:
        costs = times[batch]
        rows: dict[str, Any] = {
            f"version {labels[version]}": {"loss": loss, "cost": costs[version], "best": version == best}
            for version, loss in singles.items()
        }
        for kind, spec in policies(task).items():
            if kind not in answered or kind.startswith(BY_COST):
                try:
                    registry.plan({"model": name, "policy": priced(spec, costs), "resources": {"batch": batch}})
                except LeptonError as error:
                    answered[kind] = str(error)
                else:
                    registry.promote(name, force=True)
                    with Router.load(registry.pull(name, folder / f"deployment-{kind}-{batch}")) as router:
                        output, work = held.answers(router)
                        own = {size: held.policy_time(router, outputs, size) for size in BATCHES}
                        answered[kind] = held.losses(output, router.classes), work, own
            if isinstance(answered[kind], str):
                rows[kind] = {"refused": answered[kind]}
            else:
                loss, work, own = answered[kind]
                spent = sum(part * costs[version] for version, part in work.items())
                rows[kind] = {"loss": loss, "cost": spent + own[batch]}
        rows["oracle"] = {"loss": oracle, "cost": None}
        results.append({"batch": batch} | summary(task, held, rows, singles[best], costs[best], baseline))
    return results


def summary(
    task: Task, held: HeldOut, found: dict[str, Any], best: np.ndarray, cost: float, baseline: float
) -> dict[str, Any]:
    """Each row's figures; differences are to the best single version, positive is better."""
    lines = {}
    for name, row in found.items():
        if "refused" in row:
            lines[name] = row
            continue
        loss = row["loss"]
        value, gain = on_policy(loss), on_policy(best - loss)
        gained = baseline - float(best.mean())
        # Nothing to be had over a constant that knows the held-out base rates: no part of it can be told.
        skill = (baseline - value.value) / gained if gained > 0.02 * baseline else None
        utility = (1 - value.value / (2 * baseline)) / (1 - float(best.mean()) / (2 * baseline))
        lines[name] = {
            "value": value.value,
            "interval": value.interval(held.units),
            "gain": gain.value,
            "gain_interval": gain.interval(held.units),
            "utility": utility,
            "skill": skill,
            "micros": None if row["cost"] is None else 1e6 * row["cost"],
            "cost": None if row["cost"] is None else row["cost"] / cost,
            "single": name.startswith("version "),
            "best": row.get("best", False),
        }
    return {"task": task.name, "split": task.split, "rows": len(held.data), "metric": METRIC[task.kind], "lines": lines}


def show(result: dict[str, Any]) -> None:
    title = f"{result['task']}, {_requests(result['batch'])}"
    print(f"\n{title}: {result['rows']:,} held-out rows ({result['split']}), {result['metric']}")
    head = f"{'':27s}{'value':>9s} {'95 % interval':>18s} {'better by':>10s} {'95 % interval':>20s}"
    print(f"{head} {'P':>7s} {'skill':>7s} {'µs/row':>8s} {'cost':>6s}")
    for name, line in result["lines"].items():
        if "refused" in line:
            print(f"{name:27s} refused: {line['refused'][:130]}")
            continue
        low, high = line["interval"]
        gain_low, gain_high = line["gain_interval"]
        mark = "*" if line["best"] else "+" if gain_low > 0 else "-" if gain_high < 0 else " "
        cost = f"{line['micros']:8.1f} {line['cost']:6.2f}" if line["cost"] is not None else ""
        print(
            f"{name + ' ' + mark:27s}{line['value']:9.4f} [{low:7.4f}, {high:7.4f}] {line['gain']:+10.4f} "
            f"[{gain_low:+8.4f}, {gain_high:+8.4f}] {line['utility']:7.3f} {_figure(line['skill'])} {cost}"
        )


def aims(results: list[dict[str, Any]]) -> None:
    """What was aimed at, and where it is reached; how much a policy can save at all, by the cheapest version."""
    wins, cheap, cheap_by_skill, least = {}, {}, {}, {}
    for result in results:
        name = result["task"]
        told = {n: x for n, x in result["lines"].items() if "refused" not in x and n != "oracle"}
        answering = {n: x for n, x in told.items() if not x["single"]}
        wins[name] = [n for n, x in answering.items() if x["gain_interval"][0] > 0]
        half = {n: x for n, x in answering.items() if n.startswith(("cascade", "learned")) and x["cost"] <= 0.5}
        cheap[name] = [n for n, x in half.items() if x["utility"] >= 0.99]
        cheap_by_skill[name] = [n for n, x in half.items() if (x["skill"] or 0) >= 0.99]
        least[name] = min(x["cost"] for x in told.values() if x["single"])
    print(f"\n{_requests(results[0]['batch'])}")
    for title, found in (
        ("a policy beats the best single version, shown by the interval (aim: 3)", wins),
        ("cascade or learned keeps 99 % of its utility P at half its cost or less (aim: 3)", cheap),
        ("… and 99 % of its skill, the stricter measure", cheap_by_skill),
    ):
        reached = {name: names for name, names in found.items() if names}
        told = "; ".join(f"{name}: {', '.join(names)}" for name, names in reached.items()) or "none"
        print(f"{title}: {len(reached)} of {len(results)} tasks. {told}")
    never = [f"{name} ({cost:.2f})" for name, cost in least.items() if cost > 0.5]
    print(f"tasks where no version costs half of the best one, so that nothing can: {', '.join(never) or 'none'}")


#: Columns of the table, and whose figures they show.
SHOWN = {
    "`learned`, `budget`": "learned, half",
    "`cascade`, `quality`": "cascade, 99 %",
    "`cascade`, `blend`, `budget`": "cascade, blend, half",
    "`cascade`, `blend`": "cascade, blend, best",
    "`ensemble`, `stacked`": "ensemble, stacked",
}


def table(results: list[dict[str, Any]]) -> None:
    """By task, as Markdown: utility as a part of the best single version's, whether more is shown, and cost."""
    print(f"\n| task | cheapest version | oracle | {' | '.join(SHOWN)} |")
    print("|---" * (3 + len(SHOWN)) + "|")
    for result in results:
        lines = result["lines"]
        cheapest = min((x for x in lines.values() if x.get("single")), key=lambda x: x["cost"])
        cells = ["it is the best" if cheapest["best"] else _cell(cheapest), f"{lines['oracle']['utility']:.3f}"]
        cells += [_cell(lines.get(name)) for name in SHOWN.values()]
        print(f"| {result['task']} | {' | '.join(cells)} |")


def _cell(line: dict[str, Any] | None) -> str:
    if line is None or "refused" in line:
        return "" if line is None else "refused"
    low, high = line["gain_interval"]
    return f"{line['utility']:.3f}{'+' if low > 0 else '-' if high < 0 else ''} {line['cost']:.2f}"


def _requests(batch: int) -> str:
    return "requests of one row" if batch == 1 else f"requests of {CHUNK} rows"


def draw(results: list[dict[str, Any]], path: Path) -> None:
    """The frontier: cost against the metric, both beside the best single version; up is better."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(-(-len(results) // 4), 4, figsize=(11, 7.6), constrained_layout=True, squeeze=False)
    kinds = ("segment_best", "learned", "cascade", "ensemble")
    colours = dict(zip(kinds, ("tab:blue", "tab:orange", "tab:green", "tab:red"), strict=True))
    for axis, result in zip(axes.flat, results, strict=False):
        points = {n: x for n, x in result["lines"].items() if "refused" not in x and x["cost"] is not None}
        for name, line in points.items():
            kind = name.partition(",")[0]
            style = {"color": "0.4", "marker": "s"} if line["single"] else {"color": colours[kind], "marker": "o"}
            low, high = line["gain_interval"]
            axis.plot([line["cost"]] * 2, [low, high], color=style["color"], linewidth=1, alpha=0.6)
            axis.plot(line["cost"], line["gain"], linestyle="", markersize=6, alpha=0.85, **style)
        front: list[tuple[float, float]] = []
        for line in sorted(points.values(), key=lambda line: (line["cost"], -line["gain"])):
            if not front or line["gain"] > front[-1][1]:
                front.append((line["cost"], line["gain"]))
        axis.step(*zip(*front, strict=True), where="post", color="0.7", zorder=0)
        axis.axhline(0, color="0.85", zorder=-1)
        axis.set_xscale("log")
        axis.set_xticks([1 / 64, 1 / 16, 0.25, 1, 4], ["1/64", "1/16", "¼", "1", "4"])
        axis.axvline(0.5, color="0.9", zorder=-1)
        axis.minorticks_off()
        shown = [line["cost"] for line in points.values()]
        axis.set_xlim(max(min(*shown, 0.5), 1 / 100) / 1.2, min(max(*shown, 2), 8) * 1.2)
        axis.set_title(f"{result['task']} ({result['metric']})", fontsize=10)
        axis.tick_params(labelsize=8)
    for axis in axes.flat[len(results) :]:
        axis.axis("off")
    figure.supxlabel(f"model time a row in {_requests(BATCHES[-1])}; the best single version's is 1", fontsize=9)
    figure.supylabel("better than the best single version by", fontsize=9)
    marks = [plt.Line2D([], [], color="0.4", marker="s", linestyle="", label="single version")]
    marks += [plt.Line2D([], [], color=colours[kind], marker="o", linestyle="", label=kind) for kind in kinds]
    figure.legend(handles=marks, loc="outside upper center", ncols=5, fontsize=9, frameon=False)
    figure.savefig(path, dpi=90)


def _figure(value: float | None) -> str:
    return "      –" if value is None else f"{value:7.3f}"


def _classes(task: Task) -> list[str]:
    return [] if task.kind == "regression" else [str(value) for value in np.unique(task.held_out[task.target])]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--tasks", default=",".join(TASKS))
    arguments.add_argument("--picture", type=Path)
    arguments.add_argument("--results", type=Path, help="keep the figures in this JSON file, and go on from it")
    given = arguments.parse_args()
    picture, kept = (None if path is None else path.absolute() for path in (given.picture, given.results))
    results = json.loads(kept.read_text()) if kept is not None and kept.exists() else []
    print(f"load of the machine: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    for name in given.tasks.split(","):
        if name in {result["task"] for result in results}:
            continue
        here = Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = run(name, Path(folder))
            finally:
                os.chdir(here)
        results += found
        for result in found:
            show(result)
        if kept is not None:
            kept.write_text(json.dumps(results))
    print("\n* best single version on the held-out part; + shown to be better than it, - shown to be worse")
    for batch in BATCHES:
        these = [result for result in results if result["batch"] == batch]
        aims(these)
        table(these)
    if picture is not None:
        draw([result for result in results if result["batch"] == BATCHES[-1]], picture)


if __name__ == "__main__":
    main()
