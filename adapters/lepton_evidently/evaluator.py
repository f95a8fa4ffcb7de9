"""Evidently's HTML report and its JSON, as files of an evaluation."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lepton_evidently.definition import define
from lepton_evidently.figures import checked_figures
from lepton_plugins.errors import InvalidInput
from lepton_plugins.records.report import EvaluationReport

if TYPE_CHECKING:
    import pandas as pd

#: Evidently's time grows with the rows (regression: 5 s for 100,000), its pictures don't get better.
MOST_ROWS = 20_000


class EvidentlyEvaluator:
    """One Evidently report on a version's predictions; a random sample of them where there are many.

    Figures that differ from Lepton's own on the same rows, and those that Evidently gets wrong, are left
    out of the JSON, with the reason. Slices aren't Evidently's: its GroupBy repeats the overall figures.
    """

    def __init__(self, most_rows: int = MOST_ROWS) -> None:
        self.most_rows = most_rows

    def evaluate(self, report: EvaluationReport, predictions: pd.DataFrame, to: Path) -> Mapping[str, Path]:
        """Write `evidently.html` and `evidently.json`. InvalidInput where the sample has one class only."""
        rows = sample(predictions, report, self.most_rows)
        if report.task == "classification" and rows["target"].nunique() < 2:
            raise InvalidInput(f"the sample of {len(rows)} rows holds one class only")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            snapshot = _run(report, rows)
            html = to / "evidently.html"
            snapshot.save_html(str(html))
            figures, left_out = checked_figures(report, rows, snapshot.dict()["metrics"])
        import evidently

        about = {
            "evidently": evidently.__version__,
            "model": report.model,
            "version": report.version,
            "dataset": report.dataset.name,
            "rows": len(rows),
            "rows_evaluated": len(predictions),
        }
        _head(html, about, left_out)
        path = to / "evidently.json"
        path.write_text(json.dumps({**about, "figures": figures, "left_out": left_out}, indent=1, allow_nan=False))
        return {html.name: html, path.name: path}


def sample(predictions: pd.DataFrame, report: EvaluationReport, most: int) -> pd.DataFrame:
    """At most `most` rows, the same ones each time; of a ranking whole units."""
    if len(predictions) <= most:
        return predictions
    if report.task != "ranking":
        return predictions.sample(most, random_state=0).sort_index()
    units = predictions["group"].drop_duplicates().sample(frac=1, random_state=0)
    sizes = predictions.groupby("group", observed=True).size().loc[units]
    chosen = sizes.index[(sizes.cumsum() <= most).to_numpy()]
    return predictions[predictions["group"].isin(chosen)]


def _run(report: EvaluationReport, rows: pd.DataFrame) -> Any:
    from evidently import Dataset, Report

    table, definition, metrics = define(report, rows)
    data = Dataset.from_pandas(table, data_definition=definition)
    return Report(metrics).run(data, None, name=f"{report.model} version {report.version}")


def _head(html: Path, about: Mapping[str, Any], left_out: list[dict[str, str]]) -> None:
    """Say on the page what it is about, and which of its figures not to use."""
    of = f" (a random sample of {about['rows_evaluated']:,})" if about["rows"] < about["rows_evaluated"] else ""
    text = (
        f"{about['model']} version {about['version']} on {about['dataset']}: {about['rows']:,} rows{of}. "
        f"Made by Evidently {about['evidently']}; intervals and slices are in Lepton's report."
    )
    for item in left_out:
        text += f" Don't use {item['name']}: {item['reason']}."
    banner = f'<p style="font: 14px sans-serif; margin: 12px 24px">{escape(text)}</p>'
    page = html.read_text(encoding="utf-8")
    opening = page.find(">", page.find("<body")) + 1
    html.write_text(page[:opening] + banner + page[opening:], encoding="utf-8")
