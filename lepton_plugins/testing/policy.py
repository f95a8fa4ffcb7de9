"""The contract of selection policies."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from lepton_plugins.canonical import canonical_json
from lepton_plugins.errors import LeptonError
from lepton_plugins.routing.policy import Batch, Choice, SelectionPolicy, settled
from lepton_plugins.testing.contract import at_once, require
from lepton_plugins.testing.evidence import column_from, paired_predictions
from lepton_plugins.testing.made_policy import LAST_DRAW, ROWS, MadePolicy, draws_of


class PolicyContract(MadePolicy):
    """What every selection policy keeps. Name the policy, its parameters and the values of its context.

    It is compiled from made-up evidence as planning does it, stored, read back and asked.
    """

    # --- planning --------------------------------------------------------------------------

    def test_unknown_parameters_are_errors(self) -> None:
        try:
            self.policy.Params.model_validate({**self.params, "no_such_parameter": 1})
        except ValidationError:
            return
        require(False, "Params accepted the unknown key 'no_such_parameter'; derive it from records.record.Record")

    def test_features_are_columns_of_the_evidence(self) -> None:
        document, _ = self.compiled()
        unknown = sorted(set(document.features) - set(self.columns))
        require(not unknown, f"the compiled policy reads {unknown}, which isn't among `columns` {sorted(self.columns)}")
        needed = set(self.policy.needs(self._checked()))
        require(
            set(document.features) <= needed,
            f"the compiled policy reads {list(document.features)}, but needs() only asks for {sorted(needed)}",
        )
        try:
            self._load(*self.compiled()).choose(self._batch())
        except KeyError as error:
            require(
                error.args[0] not in self.columns,
                f"the policy reads {error.args[0]!r}, but needs() only asks for {sorted(needed)}",
            )
            raise

    def test_compiling_twice_gives_the_same_bytes(self) -> None:
        (document, files), (again, files_again) = self.compiled(), self.compiled()
        require(canonical_json(document) == canonical_json(again), "the same evidence gave two different documents")
        require(files == files_again, "the same evidence gave two different sets of files")

    def test_compiling_on_top_of_itself_keeps_every_assignment(self) -> None:
        document, files = self.compiled()
        again, files_again = self.compiled(previous=document)
        first, second = self._load(document, files), self._load(again, files_again)
        batch = self._batch()
        require(
            np.array_equal(first.choose(batch).arms, second.choose(batch).arms),
            "planning again from the same evidence, with the plan in force as `previous`, moved rows to other arms",
        )

    def test_one_arm_answers_everything(self) -> None:
        alone = self.versions[:1]
        try:
            document, files = self.compiled(versions=alone)
        except LeptonError:
            return  # A policy whose parameters name versions may refuse in a clear error.
        choice = self._load(document, files, alone).choose(self._batch())
        require((choice.arms == 0).all(), "with one arm left, not every row got it")

    # --- serving ---------------------------------------------------------------------------

    def test_propensities_sum_to_one(self) -> None:
        for policy in self._policies():
            self._check_choice(policy.choose(self._batch()), ROWS)

    def test_an_empty_batch_is_answered(self) -> None:
        for policy in self._policies():
            context = {name: column[:0] for name, column in self._batch().context.items()}
            require(
                len(policy.choose(Batch(0, context, np.zeros(0, dtype=np.uint64))).arms) == 0,
                "a batch without rows got arms",
            )

    def test_a_batch_equals_its_rows(self) -> None:
        for policy in self._policies():
            self._compare_with_rows(policy, self._batch())

    def test_arms_of_propensity_zero_are_never_chosen(self) -> None:
        for policy in self._policies():
            for draw in (0, 1, 2**63, LAST_DRAW - 1, LAST_DRAW):
                batch = self._batch()
                batch.draws[:] = draw
                self._check_choice(policy.choose(batch), ROWS)

    def test_arms_are_chosen_as_often_as_propensities_say(self) -> None:
        draws = 20_000
        spread = (np.arange(draws, dtype=np.uint64) * np.uint64(2**64 // draws)) + np.uint64(2**63 // draws)
        for policy in self._policies():
            for row in range(5):
                one = self._batch()
                context = {name: np.repeat(column[row : row + 1], draws) for name, column in one.context.items()}
                choice = policy.choose(Batch(draws, context, spread))
                expected = choice.propensities.mean(axis=0)
                found = np.bincount(choice.arms, minlength=len(expected)) / draws
                allowed = 5 * np.sqrt(expected * (1 - expected) / draws) + 2 / draws
                require(
                    (np.abs(found - expected) <= allowed).all(),
                    f"over even draws the arms were chosen {found.round(4).tolist()} of the time, "
                    f"but the propensities are {expected.round(4).tolist()}",
                )

    def test_a_logged_draw_replays_the_choice(self) -> None:
        document, files = self.compiled()
        batch = self._batch()
        first = self._load(document, files).choose(batch)
        again = self._load(document, files).choose(batch)
        require(_same(first, again), "the same stored policy chose differently for the same context and draws")

    def test_it_pickles(self) -> None:
        batch = self._batch()
        for policy in self._policies():
            copy = pickle.loads(pickle.dumps(policy))
            require(_same(policy.choose(batch), copy.choose(batch)), "its pickled copy chose differently")

    def test_several_threads_get_the_same_answer(self) -> None:
        batch = self._batch()
        for policy in self._policies():
            expected = policy.choose(batch)
            for found in at_once(lambda policy=policy: policy.choose(batch)):  # type: ignore[misc]
                require(_same(expected, found), "it chose differently when several threads asked at once")

    def test_the_context_is_left_as_it_was(self) -> None:
        for policy in self._policies():
            batch, untouched = self._batch(), self._batch()
            policy.choose(batch)
            for name, column in batch.context.items():
                same = repr(column.tolist()) == repr(untouched.context[name].tolist())  # NaN is itself.
                require(same, f"choose() changed the column {name!r}")
            require(np.array_equal(batch.draws, untouched.draws), "choose() changed the draws")

    def test_missing_values_are_answered(self) -> None:
        for policy in self._policies():
            for value in (None, float("nan")):
                context = {name: column_from([value, *self.columns[name]]) for name in policy.features}
                rows = min((len(column) for column in context.values()), default=1)
                context = {name: column[:rows] for name, column in context.items()}
                self._compare_with_rows(policy, Batch(rows, context, draws_of(rows)))
            chosen = policy.choose_one({}, 0)
            require(0 <= chosen.arm < len(self.versions), "a row without any context got no arm")

    def test_values_never_seen_are_answered(self) -> None:
        for policy in self._policies():
            for value in ("never seen before", -1, 10**9, 0.5, True):
                context = {name: column_from([value]) for name in policy.features}
                self._compare_with_rows(policy, Batch(1, context, draws_of(1)))

    def test_explain_shows_every_arm(self) -> None:
        for policy in self._policies():
            batch = self._batch()
            vectors = policy.choose(batch).propensities
            for row in range(20):
                context = {name: _plain(column[row]) for name, column in batch.context.items()}
                candidates = policy.explain(context)
                shown = [candidate.version for candidate in candidates]
                require(shown == list(self.versions), f"explain() shows {shown}, expected {list(self.versions)}")
                found = [candidate.propensity for candidate in candidates]
                require(
                    np.allclose(found, vectors[row], atol=1e-9),
                    f"explain() gives the propensities {found}, choose() {vectors[row].tolist()} for {context}",
                )
                require(all(candidate.reason for candidate in candidates), "explain() leaves an arm without a reason")

    def test_an_answer_of_several_arms_is_its_rows_answers(self) -> None:
        if not self.policy.consults:
            return
        outputs = [np.asarray(output)[:ROWS] for output in paired_predictions(self.columns, self.versions).outputs]
        for policy in self._policies():

            def run(arm: int, rows: NDArray[np.intp] | None) -> NDArray[Any]:
                return outputs[arm] if rows is None else outputs[arm][rows]

            made = policy.consult(ROWS, run)
            require(made is not None, "consult() answered nothing although every arm did")
            assert made is not None
            self._check_choice(settled(made, len(self.versions)), ROWS)
            require(len(made.values) == ROWS, f"consult() gave {len(made.values)} answers for {ROWS} rows")
            require((made.failed == -1).all(), "consult() tells of failures although every arm answered")
            require(np.array_equal(made.arms, made.served), "without failures another arm served than should have")
            for row in range(20):
                one = policy.consult(1, lambda arm, rows, row=row: outputs[arm][row : row + 1])  # type: ignore[misc]
                assert one is not None
                require(
                    one.arms[0] == made.arms[row] and np.allclose(one.values[0], made.values[row]),
                    f"row {row} alone got the arm {one.arms[0]} and {one.values[0]}, "
                    f"in a batch {made.arms[row]} and {made.values[row]}",
                )
            require(
                policy.consult(ROWS, lambda arm, rows: None) is None, "consult() answered although every arm failed"
            )

    # --- inside ----------------------------------------------------------------------------

    def _check_choice(self, choice: Choice, rows: int) -> None:
        arms = len(self.versions)
        require(choice.arms.shape == (rows,), f"arms have the shape {choice.arms.shape}, expected ({rows},)")
        require(choice.cells.shape == (rows,), f"cells have the shape {choice.cells.shape}, expected ({rows},)")
        cells = len(choice.vectors)
        require(choice.vectors.shape == (cells, arms), f"vectors have the shape {choice.vectors.shape}, arms: {arms}")
        require(((choice.arms >= 0) & (choice.arms < arms)).all(), "an arm's index is out of range")
        require(((choice.cells >= 0) & (choice.cells < cells)).all(), "a cell's index is out of range")
        require((choice.vectors >= 0).all(), "a propensity is negative")
        totals = choice.propensities.sum(axis=1)
        require(
            np.allclose(totals, 1, atol=1e-9), f"propensities sum to {totals.min():g} … {totals.max():g}, expected 1"
        )
        chosen = choice.propensities[np.arange(rows), choice.arms]
        require((chosen > 0).all(), "an arm of propensity zero was chosen")
        require(
            len(choice.reasons) == cells and len(choice.segments) == cells,
            f"found {len(choice.reasons)} reasons and {len(choice.segments)} segments for {cells} cells",
        )
        require(all(isinstance(reason, str) and reason for reason in choice.reasons), "a cell has no reason")

    def _compare_with_rows(self, policy: SelectionPolicy, batch: Batch) -> None:
        choice = policy.choose(batch)
        self._check_choice(choice, batch.rows)
        for row in range(batch.rows):
            context = {name: _plain(column[row]) for name, column in batch.context.items()}
            one = policy.choose_one(context, int(batch.draws[row]))
            cell = int(choice.cells[row])
            found = (one.arm, one.reason, one.segment)
            expected = (int(choice.arms[row]), choice.reasons[cell], choice.segments[cell])
            require(found == expected, f"for {context} a row alone got {found}, the same row in a batch {expected}")
            require(
                np.allclose(one.vector, choice.vectors[cell], atol=1e-12),
                f"for {context} a row alone has the propensities {list(one.vector)}, "
                f"the same row in a batch {choice.vectors[cell].tolist()}",
            )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _same(a: Choice, b: Choice) -> bool:
    return bool(np.array_equal(a.arms, b.arms) and np.allclose(a.propensities, b.propensities, atol=1e-12))
