"""The kinds of output that versions are brought to, so that arms are interchangeable."""

from __future__ import annotations

from typing import Literal

#: proba: float64 (rows, classes), each row sums to 1 · label: (rows,) · score: float64 (rows,), higher
#: ranks first · value: float64 (rows,), or (rows, k) for several targets.
OutputKind = Literal["label", "proba", "score", "value"]
