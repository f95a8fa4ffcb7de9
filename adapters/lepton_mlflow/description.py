"""Lepton's block in a description that also holds what a user wrote.

    log loss 0.431 on flights-2013<!-- lepton:begin 30 a1b2c3d4 -->
    …
    <!-- lepton:end -->

    What the user wrote, before or after, stays byte for byte.

MLflow's version list shows only the first characters of the raw text, so the verdict stands before the
begin marker. The marker says how long it is and what its digest is: should a user have edited that line,
it is theirs and stays.
"""

from __future__ import annotations

import hashlib
import re

from lepton_mlflow.names import DESCRIPTION_LIMIT

_BEGIN = re.compile(r"<!-- lepton:begin (\d+) ([0-9a-f]{8}) -->")
_END = "<!-- lepton:end -->"
#: Part of the block, so that what follows starts a paragraph of its own.
_GAP = "\n\n"


def without_block(text: str) -> str:
    """The user's own text."""
    before, after = _around(text)
    return before + after


def has_block(text: str) -> bool:
    """Whether Lepton's block stands in a description."""
    return _BEGIN.search(text) is not None


def with_block(text: str, verdict: str, bodies: list[str], limit: int = DESCRIPTION_LIMIT) -> str:
    """The user's text with the block where it stood, or on top.

    `bodies` are the block's contents from the fullest to the shortest: the first that fits the limit
    is taken. If not even the verdict fits beside the user's text, the text stays as it is.
    """
    before, after = _around(text)
    mark = f"<!-- lepton:begin {len(verdict)} {_digest(verdict)} -->"
    for body in [*bodies, ""]:
        block = f"{verdict}{mark}\n\n{body}\n\n{_END}{_GAP}" if body else f"{verdict}{mark}{_END}{_GAP}"
        if not after:
            block = block.removesuffix(_GAP)
        if len(before) + len(block) + len(after) <= limit:
            return before + block + after
    return before + after


def _around(text: str) -> tuple[str, str]:
    """What stands before the block and after it; all of it before, if there is none."""
    begin = _BEGIN.search(text)
    if begin is None:
        return ("", text)
    before = text[: begin.start()]
    length, digest = int(begin[1]), begin[2]
    verdict = before[-length:] if length else ""
    if len(before) >= length and _digest(verdict) == digest:
        before = before[: len(before) - length]
    end = text.find(_END, begin.end())
    # An end marker that a user removed: only the begin marker is certainly Lepton's.
    after = text[end + len(_END) :] if end >= 0 else text[begin.end() :]
    return before, after.removeprefix(_GAP) if end >= 0 else after


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
