"""One run for each activation: its record in write-once params, and tags that people read."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lepton_mlflow.experiments import Home
from lepton_mlflow.ledger import Entry
from lepton_mlflow.names import KIND, PARAM_LIMIT, RUN_TAG_LIMIT
from lepton_mlflow.runs import create_run
from lepton_plugins.canonical import canonical_json, digest_bytes
from lepton_plugins.errors import DigestMismatch, RecordTooLong
from lepton_plugins.records.plan import Activation

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
#: MLflow takes a hundred params at once.
_CHUNKS = 100
_VERBS = {"promote": "Promoted", "rollback": "Rolled back to", "pin": "Pinned by", "unpin": "Unpinned by"}


def write_activation(client: MlflowClient, home: Home, activation: Activation, number: int) -> dict[str, Any]:
    """Store an activation as a run; returns the entry to claim with. It counts only when it is in the ledger."""
    from mlflow.entities import Param

    body = canonical_json(activation)
    text = body.decode()
    chunks = [text[start : start + PARAM_LIMIT] for start in range(0, len(text), PARAM_LIMIT)]
    if len(chunks) > _CHUNKS:
        raise RecordTooLong("An activation's reason and evidence", len(text), _CHUNKS * PARAM_LIMIT)
    said = f"{_VERBS[activation.action]} plan #{activation.to_number} by {activation.who}"
    run = create_run(
        client,
        home.experiment_id,
        "activation",
        model=activation.model,
        name=f"{activation.action} #{activation.to_number}",
        note=f"{said}: {activation.why}" if activation.why else said,
        tags={
            "lepton.action": activation.action,
            "lepton.from": str(activation.from_digest),
            "lepton.to": activation.to_digest,
            "lepton.who": activation.who[:RUN_TAG_LIMIT],
            "lepton.why": activation.why[:RUN_TAG_LIMIT],
            "lepton.number": str(number),
        },
    )
    run_id = str(run.info.run_id)
    params = [Param(f"record.{index:03d}", chunk) for index, chunk in enumerate(chunks)]
    client.log_batch(run_id, params=params, synchronous=True)
    client.set_terminated(run_id)
    return {
        "run_id": run_id,
        "digest": digest_bytes(body),
        **{key: getattr(activation, key) for key in ("action", "from_digest", "to_digest", "to_number", "at")},
        "who": activation.who[:200],
    }


def read_activations(client: MlflowClient, home: Home, model: str, entries: Sequence[Entry]) -> list[Activation]:
    """The activations in the ledger. One whose run was erased keeps what the ledger says of it."""
    runs = {str(run.info.run_id): run for run in _runs(client, home)} if entries else {}
    return [_read(model, entry, runs.get(str(entry.value["run_id"]))) for entry in entries]


def _runs(client: MlflowClient, home: Home) -> Iterator[Run]:
    from mlflow.entities import ViewType

    token: str | None = None
    while True:
        page = client.search_runs(
            [home.experiment_id],
            f"tags.`{KIND}` = 'activation'",
            run_view_type=ViewType.ALL,
            max_results=_PAGE,
            page_token=token,
        )
        yield from page
        token = page.token
        if not token:
            return


def _read(model: str, entry: Entry, run: Run | None) -> Activation:
    value: Mapping[str, Any] = entry.value
    if run is None:
        known = {key: value[key] for key in ("action", "from_digest", "to_digest", "to_number", "at", "who")}
        return Activation(model=model, run_id=str(value["run_id"]), why="(its run was erased)", **known)
    params = run.data.params
    text = "".join(params[key] for key in sorted(params) if key.startswith("record."))
    if (found := digest_bytes(text.encode())) != value["digest"]:
        raise DigestMismatch(f"Activation {entry.number} of {model!r}", found, str(value["digest"]))
    return Activation.model_validate({**json.loads(text), "run_id": str(value["run_id"])})
