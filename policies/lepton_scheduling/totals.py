"""What a version's replicas bear on all pools together, as one whole number.

Three replicas of a version on one pool and two on another often bear what two and three do, or what one and three
do where the second is half as fast again. A search that tells these apart proves each of them anew, and there are
very many. Where the rates of a version are small multiples of a unit, rate_ib = unit_i·k_ib, a program with totals

    t_i = Σ_b k_ib·r_ib     0, 1, 2 …

lets r_ib be parts. Its optimum is no less than that of whole r_ib; where whole ones with the same t_i are worth as
much, it is theirs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lepton_plugins.planning.solver import FloatArray
from lepton_scheduling.engine import Model
from lepton_scheduling.program import Program

#: The units into which the lowest rate is divided, and those of the highest, at most: sums of larger multiples are
#: too few of all whole numbers.
_UNITS, _MOST = 4, 6


@dataclass(slots=True)
class Totals:
    """The versions `i` that have a total, and k of each replica column, 0 for those of other versions."""

    program: Program
    versions: NDArray[np.intp] = field(init=False)
    multiple: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        program = self.program
        i, rate = program.r_version, program.problem.rate[program.r_version, program.bin_pool[program.r_bin]]
        versions = len(program.problem.versions)
        least = np.full(versions, np.inf)
        np.minimum.at(least, i, rate)
        several = np.bincount(i, minlength=versions) > 1
        self.multiple = np.zeros(len(i))
        for units in range(1, _UNITS + 1):
            multiple = units * rate / least[i]
            broken = (np.abs(multiple - np.round(multiple)) > 1e-9 * multiple) | (multiple > _MOST + 0.5)
            found = several & (np.bincount(i, weights=broken, minlength=versions) == 0)
            self.multiple[found[i]] = np.round(multiple[found[i]])
            several &= ~found
        self.versions = np.unique(i[self.multiple > 0])

    @property
    def count(self) -> int:
        return len(self.versions)

    def together(self, model: Model) -> Model:
        """The program's model with totals as its last columns, of which the replicas may be parts."""
        from scipy.sparse import csc_array, vstack

        rows, columns = model.matrix.shape
        mine = np.flatnonzero(self.multiple)
        of, k = np.searchsorted(self.versions, self.program.r_version[mine]), self.multiple[mine]
        total = np.arange(self.count)
        row, column = np.r_[of, total], np.r_[self.program.r + mine, columns + total]
        sums = csc_array((np.r_[k, -np.ones(self.count)], (row, column)), shape=(self.count, columns + self.count))
        # No new columns in the rows that are there: their pointers stay where the matrix ends.
        pointers = np.r_[model.matrix.indptr, np.full(self.count, model.matrix.nnz)]
        padded = csc_array((model.matrix.data, model.matrix.indices, pointers), shape=(rows, columns + self.count))
        none = np.zeros(self.count)
        upper = np.bincount(of, weights=k * model.upper[self.program.r + mine], minlength=self.count)
        whole = model.whole.copy()
        whole[self.program.r + mine] = False
        return replace(
            model,
            worth=np.r_[model.worth, none],
            matrix=vstack([padded, sums], format="csc"),
            low=np.r_[model.low, none],
            high=np.r_[model.high, none],
            lower=np.r_[model.lower, none],
            upper=np.r_[model.upper, upper],
            whole=np.r_[whole, np.ones(self.count, dtype=bool)],
            start=None if model.start is None else np.r_[model.start, np.full(self.count, np.nan)],
        )

    def apart(self, model: Model, x: FloatArray) -> Model:
        """A model that `together` made, with whole replicas that have the totals of x."""
        lower, upper = model.lower.copy(), model.upper.copy()
        lower[-self.count :] = upper[-self.count :] = np.round(x[-self.count :])
        whole = model.whole.copy()
        whole[self.program.r : self.program.m] = True
        return replace(model, lower=lower, upper=upper, whole=whole, start=None)
