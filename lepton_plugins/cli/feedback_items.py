"""Feedback from the command line, to a running server or straight into a decision log."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from lepton_plugins.errors import ColumnMissing, InvalidInput, ServerRefused, ServerUnreachable
from lepton_plugins.records.decision import Feedback

#: Items in one request; a server takes at most as many as it takes rows.
_AT_ONCE = 10_000


def feedback_items(decision: str | None, reward: float | None, label: str | None, data: Path | None) -> list[Feedback]:
    """One item from the options, or those of a table with `decision` and `reward` or `label`."""
    if data is None:
        if decision is None or (reward is None and label is None):
            raise InvalidInput("feedback on a decision needs --reward or --label.")
        return [Feedback(decision=decision, reward=reward, label=label)]
    from lepton_plugins.evaluation.table import read_table

    frame = read_table(data)
    if "decision" not in frame.columns:
        raise ColumnMissing("decision", "feedback's", frame.columns)
    said = [name for name in ("reward", "label", "time") if name in frame.columns]
    if not {"reward", "label"} & set(said):
        raise ColumnMissing("reward", "feedback's (or label)", frame.columns)
    items = []
    for row in frame[["decision", *said]].to_dict("records"):
        given = {name: _plain(value) for name, value in row.items() if value == value and value is not None}
        if "reward" in given or "label" in given:
            items.append(Feedback.model_validate(given))
    return items


def send(to: str, items: Sequence[Feedback]) -> dict[str, Any]:
    """Send items to a server (http…) or store them in a log; the counts, and the decisions nobody knows."""
    total: dict[str, Any] = {"stored": 0, "duplicates": 0, "unknown": []}
    if to.startswith(("http://", "https://")):
        for start in range(0, len(items), _AT_ONCE):
            receipt = _post(to, items[start : start + _AT_ONCE])
            total = {name: total[name] + receipt[name] for name in total}
        return total
    from contextlib import closing

    from lepton_plugins.routing.store import open_log

    with closing(open_log(to)) as log:
        kept = log.feedback(items)
        stored, duplicates, unknown = kept.stored, kept.duplicates, kept.unknown
    return {"stored": stored, "duplicates": duplicates, "unknown": list(unknown)}


def _post(server: str, items: Sequence[Feedback]) -> dict[str, Any]:
    body = json.dumps([item.model_dump(exclude_none=True) for item in items]).encode()
    headers = {"content-type": "application/json"}
    if os.environ.get("LEPTON_TOKEN"):
        headers["authorization"] = f"Bearer {os.environ['LEPTON_TOKEN'].strip()}"
    request = Request(f"{server.rstrip('/')}/lepton/feedback", body, headers)
    try:
        with urlopen(request, timeout=60) as answer:
            receipt: dict[str, Any] = json.load(answer)
            return receipt
    except HTTPError as error:
        raise ServerRefused(server, error.code, _sentence(error)) from None
    except (URLError, OSError) as error:
        raise ServerUnreachable(server, str(getattr(error, "reason", error))) from None


def _sentence(error: HTTPError) -> str:
    try:
        return str(json.load(error)["error"])
    except (ValueError, KeyError, TypeError):
        return error.reason


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
