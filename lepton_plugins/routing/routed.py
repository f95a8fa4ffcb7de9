"""A row that is decided and not yet answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from lepton_plugins.routing.inputs import Columns
from lepton_plugins.routing.policy import RowChoice


@dataclass(slots=True)
class Routed:
    """One row, and where it goes. `columns` are checked, `key` is the unit's hash as it is logged."""

    columns: Columns
    choice: RowChoice
    draw: int
    key: str | None
    context: dict[str, NDArray[Any]]
    """What is logged of the row, each an array of shape (1,)."""
    request: str
    held: bool
    """Whether its unit is held out."""

    def kind(self) -> tuple[object, ...]:
        """Rows of one kind may be answered by one call: they go to one arm and can stand in one array."""
        columns = [(name, column.dtype.char, column.shape) for name, column in self.columns.items()]
        context = [(name, column.dtype.char) for name, column in self.context.items()]
        return (self.choice.arm, self.key is None, *columns, *context)
