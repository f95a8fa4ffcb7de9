"""The ledger: a list that processes append to one at a time, although MLflow has no compare-and-set.

MLflow has exactly one operation that only one of several callers can win: a run's **param is written
once**. Its key and run are the primary key of the table, so of two inserts with different values one
fails, in the database, on every SQL store and behind every server. A run that holds nothing but params
`<list>.000001`, `<list>.000002`, … is therefore an append-only log: who wins the next number has
appended, who doesn't is told by an error. The values name runs, so no two callers claim with the same
value; a request that is sent again after a lost answer claims with its own and is let through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lepton_mlflow.faults import is_write_once_conflict
from lepton_mlflow.names import PARAM_LIMIT
from lepton_plugins.errors import RecordTooLong

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True, slots=True)
class Entry:
    """One appended value and its place, from 1."""

    number: int
    value: Mapping[str, Any]


class Ledger:
    """The lists in one run's params. All methods are called inside `Access.doing`."""

    def __init__(self, client: MlflowClient, run_id: str) -> None:
        self._client = client
        self.run_id = run_id

    def entries(self, name: str) -> list[Entry]:
        """One list, oldest first."""
        params = self._client.get_run(self.run_id).data.params
        found = [
            Entry(int(key.rpartition(".")[2]), json.loads(value))
            for key, value in params.items()
            if key.rpartition(".")[0] == name
        ]
        return sorted(found, key=lambda entry: entry.number)

    def claim(self, name: str, number: int, value: Mapping[str, Any]) -> bool:
        """Append `value` as entry `number`; False if another was appended there first."""
        from mlflow.exceptions import MlflowException

        text = json.dumps(value, sort_keys=True, ensure_ascii=False)
        if len(text) > PARAM_LIMIT:
            raise RecordTooLong(f"An entry of the {name} ledger", len(text), PARAM_LIMIT)
        try:
            self._client.log_param(self.run_id, f"{name}.{number:06d}", text, synchronous=True)
        except MlflowException as error:
            if is_write_once_conflict(error):
                return False
            raise
        return True
