"""`highs`: the exact allocation by HiGHS itself, which can begin with the plan in force."""

from __future__ import annotations

import numpy as np

from lepton_scheduling.engine import Engine, Model, Result, scale_of
from lepton_scheduling.milp import MilpSolver

NAME = "highs"


class HighsSolver(MilpSolver):
    """As `milp`. Where a plan is in force its replicas are the first answer, if they still bear the load."""

    name = NAME

    @property
    def engine(self) -> Engine:
        return by_highspy


def by_highspy(model: Model, seconds: float | None, gap: float) -> Result:
    """HiGHS through highspy, warm-started with `model.start` (NaN: for HiGHS to fill in)."""
    import highspy

    solver = highspy.Highs()  # type: ignore[no-untyped-call]
    for name, value in (("output_flag", False), ("presolve", "off"), ("mip_rel_gap", gap), ("random_seed", 0)):
        solver.setOptionValue(name, value)
    if seconds is not None:
        solver.setOptionValue("time_limit", seconds)
    rows, columns = model.matrix.shape
    scale = scale_of(model.worth, gap)
    solver.passModel(
        columns,
        rows,
        model.matrix.nnz,
        int(highspy.MatrixFormat.kColwise),
        int(highspy.ObjSense.kMinimize),
        0.0,
        -scale * model.worth,
        model.lower,
        model.upper,
        model.low,
        model.high,
        model.matrix.indptr.astype(np.int32),
        model.matrix.indices.astype(np.int32),
        model.matrix.data,
        model.whole.astype(np.int32),
    )
    if model.start is not None:
        known = np.flatnonzero(~np.isnan(model.start))
        solver.setSolution(len(known), known.astype(np.int32), model.start[known])
    solver.run()
    status, info = solver.getModelStatus(), solver.getInfo()
    if status == highspy.HighsModelStatus.kInfeasible:
        return Result("infeasible", None, -np.inf, np.inf)
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return Result("unknown", None, -np.inf, np.inf)
    value = -float(info.objective_function_value) / scale
    bound = -float(info.mip_dual_bound) / scale if model.whole.any() else value
    done = status == highspy.HighsModelStatus.kOptimal
    return Result("optimal" if done else "feasible", np.array(solver.getSolution().col_value), value, bound)
