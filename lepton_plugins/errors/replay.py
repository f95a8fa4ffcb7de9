"""Replaying a decision log."""

from __future__ import annotations

from lepton_plugins.errors.base import LeptonError


class ReplayImpossible(LeptonError):
    """A plan or a log that tells nothing of what would have been."""

    code = "replay_impossible"
    exit_code = 1

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"No estimate can be made: {reason}. Try the plan beside the other: a holdout, a shadow, a share."
        )


class NoRewards(LeptonError):
    """A log from which nothing is known of what its decisions earned."""

    code = "no_rewards"
    exit_code = 1

    def __init__(self, decisions: int, labels: int) -> None:
        told = f"; {labels:,} have a label, but no reward" if labels else ""
        super().__init__(
            f"Found {decisions:,} decisions, and no reward of any that could count{told}. Tell what became of them: "
            f"POST /lepton/feedback, or lepton feedback LOG --data FILE."
        )
