"""What a plan's user should know before promoting it, beside what candidates and policies said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lepton_plugins.planning.calibration import calibration_warning
from lepton_plugins.planning.candidates import Candidate
from lepton_plugins.planning.inputs import notes
from lepton_plugins.records.report import Task
from lepton_plugins.records.spec import PlanSpec
from lepton_plugins.routing.policy import HEADER, Choice, SelectionPolicy

if TYPE_CHECKING:
    from lepton_plugins.evaluation.paired import PairedPredictions


def warnings_of(
    spec: PlanSpec,
    task: Task,
    paired: PairedPredictions,
    served: SelectionPolicy,
    chosen: Sequence[Candidate],
    answer: Choice,
) -> list[str]:
    """A sentence each. `answer` is what the policy, as it will be `served`, does with the evaluation rows."""
    found = notes({item.name: item.signature for item in chosen})
    if served.learns:
        found.append("shares and gain are those before the first reward: the policy learns from feedback")
    headers = [name for name in served.features if name.startswith(HEADER)]
    if headers:
        found.append(f"shares and gain are those of requests without {', '.join(headers)}")
    missing = [name for name in served.features if name not in paired.columns and name not in headers]
    if missing:
        found.append(
            f"the evaluation data has no column {', '.join(missing)}, which the policy reads: shares and gain are "
            f"those of rows without it. Keep it with: lepton evaluate … --context {missing[0]}"
        )
    place = {version: index for index, version in enumerate(paired.versions)}
    # A shadow is an arm but no version of the evidence; it is never chosen.
    index = np.array([place.get(version, -1) for version in served.arms], dtype=np.intp)
    known = {segment: number for number, segment in enumerate(dict.fromkeys(answer.segments))}
    segments = np.array([known[segment] for segment in answer.segments], dtype=np.intp)[answer.cells]
    shares = np.zeros((paired.rows, len(paired.versions)))
    seen = index >= 0
    shares[:, index[seen]] = answer.propensities[:, seen]
    warning = calibration_warning(paired, index[answer.arms], shares, segments, chosen[0].report.classes)
    if warning is not None:
        found.append(warning)
    if task == "ranking" and spec.per == "row" and len(chosen) > 1:
        found.append(
            "a ranking is decided row by row: rows of one list may get scores of different versions. Set "
            "per: request, with one list a request"
        )
    return found
