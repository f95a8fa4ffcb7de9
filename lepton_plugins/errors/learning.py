"""Learning from rewards, and where it is kept."""

from __future__ import annotations

from lepton_plugins.errors.base import LeptonError
from lepton_plugins.errors.serving import RequestInvalid


class RewardInvalid(RequestInvalid):
    """A reward beyond the range that the policy was told."""

    code = "reward_invalid"

    def __init__(self, found: float, low: float, high: float) -> None:
        super().__init__(
            f"Found the reward {found:g}",
            field="reward",
            expected=f"{low:g} to {high:g}, as policy.params.reward says",
        )


class LabelInvalid(RequestInvalid):
    """A label that no reward can be made of."""

    code = "label_invalid"

    def __init__(self, label: object, expected: str) -> None:
        super().__init__(f"Found the label {str(label)[:80]!r}", field="label", expected=expected)


class StateAway(LeptonError):
    """A store of learning state that can't be reached for now."""

    code = "state_away"
    http_status = 503

    def __init__(self, store: str, reason: str) -> None:
        super().__init__(
            f"The learning state in {store} can't be reached: {reason}. What is learned is kept until it can."
        )


class StateInvalid(LeptonError):
    """A file, or a value, of learning state that can't be read as one."""

    code = "state_invalid"

    def __init__(self, place: str, found: str) -> None:
        super().__init__(
            f"{place} is no learning state: found {found}. Move it away to begin anew, or name another place."
        )
