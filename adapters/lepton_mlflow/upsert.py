"""Writes that MLflow means as "insert or update", made so when two processes insert at the same time."""

from __future__ import annotations

from collections.abc import Callable

from lepton_mlflow.faults import already_exists


def upsert(write: Callable[[], object]) -> None:
    """Call `write`, and once more where MLflow found the row missing but another process made it first.

    MLflow's SQL store looks for a tag's or alias's row and then inserts it; the second of two inserts
    fails on the primary key, and as an update it succeeds.
    """
    try:
        write()
    except Exception as error:
        if not already_exists(error):
            raise
        write()
