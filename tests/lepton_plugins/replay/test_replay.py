"""A router's log replayed: under its own plan bit for bit, under another with a number or a reason why not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from lepton_plugins.cli.main import main
from lepton_plugins.errors import ContextNotLogged, NoRewards, ReplayImpossible
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.records.signature import Field
from lepton_plugins.replay.replay import plan_in, plans_of, replay, replay_as
from lepton_plugins.routing.router import Router
from lepton_plugins.routing.store import open_log, open_reader

CONTEXT = [Field(name="carrier", dtype="str", required=False), Field(name="customer", dtype="str", required=False)]
STICKY = {"sticky": {"key": "customer"}}
#: What each version earns where.
EARNS = {
    "AA": {"1": 0.7, "2": 0.5, "3": 0.2},
    "UA": {"1": 0.3, "2": 0.6, "3": 0.5},
    "ZZ": {"1": 0.4, "2": 0.4, "3": 0.4},
}
OLD = {"AA": "2", "UA": "2"}
NEW = {"AA": "1", "UA": "2"}


def rows(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    data = {f"x{i}": random.normal(size=count) for i in range(3)}
    data["carrier"] = random.choice(np.array(list(EARNS), dtype=object), count)
    data["customer"] = np.array([f"customer-{i}" for i in random.integers(0, 4 * count, count)], dtype=object)
    return data


def serve(router: Router, place: str, *, count: int = 4000, part: float = 1.0) -> float:
    """Answer rows, reward them, and tell what the new policy would have earned in truth."""
    data = rows(count)
    answer = router.predict(data, request="all")
    router.predict({name: column[:1] for name, column in data.items()}, request="one")
    random = np.random.default_rng(7)
    rewarded = random.random(count) < part
    router.feedback(
        {"decision": d.id, "reward": float(random.random() < EARNS[d.context["carrier"]][d.chosen])}
        for d, told in zip(answer.decisions, rewarded, strict=True)
        if told
    )
    router.settle()
    return float(np.mean([EARNS[carrier][NEW.get(carrier, "3")] for carrier in data["carrier"]]))


@pytest.fixture
def make(make_router, segments_policy):
    def made(table: dict[str, str], log=None, around=None, **settings) -> Router:
        return make_router(
            policy=segments_policy("carrier", table),
            context=CONTEXT,
            around=STICKY | (around or {}),
            log=log,
            default="3",
            **settings,
        )

    return made


def directory_of(router: Router) -> Path:
    return router._directory


@pytest.mark.parametrize("scheme", ["jsonl", "parquet"])
def test_an_exploring_plans_log_tells_what_another_would_have_earned(make, tmp_path, scheme):
    log = open_log(f"{scheme}:{tmp_path / 'log'}")
    truth = serve(make(OLD, log, {"explore": 0.3}), scheme)
    log.close()
    found = replay_as(tmp_path / "log", *plan_in(directory_of(make(NEW))))
    assert found.refusal is None
    assert (found.decisions, found.rewarded, found.coverage) == (4001, 4000, pytest.approx(1.0))
    for name, estimate in found.estimates.items():
        assert estimate.low < truth < estimate.high, name
        assert estimate.high - estimate.low < 0.12, name
    assert found.difference.low > 0
    assert "would have earned more" in found.verdict
    worse = replay_as(tmp_path / "log", *plan_in(directory_of(make({"AA": "3", "UA": "1"}))))
    assert "would have earned less" in worse.verdict
    same = replay_as(tmp_path / "log", *plan_in(directory_of(make(OLD, around={"explore": 0.3}))))
    assert "It isn't shown" in same.verdict
    assert same.agreement == pytest.approx(same.effective_size / same.units, abs=0.3)


def test_a_certain_plans_log_tells_nothing_and_says_where(make, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    serve(make(OLD, log), "jsonl")
    found = replay_as(tmp_path / "log", *plan_in(directory_of(make(NEW))))
    assert found.estimates == {}
    assert found.coverage == pytest.approx(2 / 3, abs=0.05)
    (lacking,) = found.unsupported
    assert (lacking.version, lacking.segment) == ("1", "AA")
    assert 1200 < lacking.decisions < 1500
    assert "version 1 in segment AA" in found.verdict
    assert "explore: 0.05" in found.verdict
    itself = replay_as(tmp_path / "log", *plan_in(directory_of(make(OLD))))
    assert itself.estimates["dr"].value == pytest.approx(itself.logged.value)


def test_too_little_is_no_number(make, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    serve(make(OLD, log, {"explore": 0.02}), "jsonl", count=120)
    found = replay_as(tmp_path / "log", *plan_in(directory_of(make({"AA": "1", "UA": "1", "ZZ": "1"}))))
    assert found.estimates == {}
    assert "at least 30 are needed" in found.refusal


def test_rewards_that_are_missing_are_told(make, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    router = make(OLD, log, {"explore": 0.5})
    new = plan_in(directory_of(make(NEW)))
    router.predict(rows(50), request="unrewarded")
    log.flush()
    with pytest.raises(NoRewards, match="50 decisions"):
        replay_as(tmp_path / "log", *new)
    serve(router, "jsonl", part=0.5)
    router.predict(rows(10), request="forced", version="1")
    log.flush()
    found = replay_as(tmp_path / "log", *new)
    assert found.forced == 10
    assert any("have no reward" in warning for warning in found.warnings)
    assert any("10 forced" in warning for warning in found.warnings)


def test_answers_of_another_version_than_the_chosen_one_are_told(make, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    router = make(OLD, log, {"explore": 0.5, "degrade": {"to": "3", "concurrency": {"1": 1}}})
    router._degrader.enters(0, 1, None)  # Version 1 is busy from here on.
    serve(router, "jsonl")
    moved = router.counters.degraded_rows["1"]
    assert moved > 100
    found = replay_as(tmp_path / "log", *plan_in(directory_of(make(NEW))))
    (told,) = [warning for warning in found.warnings if "another version" in warning]
    assert told.startswith(f"{moved:,} of 4,000 decisions were answered by another version than the one chosen")


def test_what_the_log_lacks_is_named(make, make_router, weighted_policy, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    shares = {"1": 0.4, "2": 0.3, "3": 0.3}
    router = make_router(policy=weighted_policy(shares), context=CONTEXT, around=STICKY, log=log)
    answer = router.predict(rows(500), request="all")
    router.feedback({"decision": d.id, "reward": 1.0} for d in answer.decisions)
    with pytest.raises(ContextNotLogged, match=r"reads carrier.*columns: \[carrier\]"):
        replay_as(tmp_path / "log", *plan_in(directory_of(make(NEW))))
    log = open_log(f"jsonl:{tmp_path / 'more'}")
    router = make_router(
        policy=weighted_policy(shares), context=CONTEXT, around=STICKY, log=log, decisions={"columns": ["carrier"]}
    )
    truth = serve(router, "jsonl")
    found = replay_as(tmp_path / "more", *plan_in(directory_of(make(NEW))))
    assert found.estimates["dr"].low < truth < found.estimates["dr"].high


ENSEMBLE = PolicyDocument(
    kind="ensemble",
    params={"how": "mean"},
    document={"how": "mean", "weights": [["1", 0.5], ["2", 0.5]]},
)


def test_answers_of_several_versions_give_no_number(make, make_router, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    router = make_router(policy=ENSEMBLE, context=CONTEXT, around=STICKY | {"holdout": 0.1}, log=log)
    answer = router.predict(rows(300), request="all")
    assert all(decision.consulted for decision in answer.decisions)
    router.feedback({"decision": d.id, "reward": 1.0} for d in answer.decisions)
    new = plan_in(directory_of(make(NEW)))
    with pytest.raises(ReplayImpossible, match="several versions' answers"):
        replay_as(tmp_path / "log", *new)
    plain = open_log(f"jsonl:{tmp_path / 'plain'}")
    serve(make(OLD, plain, {"explore": 0.5}), "jsonl", count=300)
    with pytest.raises(ReplayImpossible, match="ensemble"):
        replay_as(tmp_path / "plain", *plan_in(directory_of(router)))
    found = replay(tmp_path / "log", plans_of(None, directory_of(router)))
    assert (found.verified, found.passed) == (0, False)
    assert "ensemble" in next(iter(found.unverifiable))


@pytest.mark.parametrize("per", ["row", "request"])
@pytest.mark.parametrize("scheme", ["jsonl", "parquet"])
def test_logged_decisions_come_out_the_same(make, tmp_path, scheme, per):
    log = open_log(f"{scheme}:{tmp_path / 'log'}")
    router = make(OLD, log, {"explore": 0.3, "holdout": 0.2}, per=per)
    for count in (1, 2, 500):
        router.predict(rows(count, count))
    router.predict(rows(5), version="1")
    log.close()
    found = replay(tmp_path / "log", plans_of(None, directory_of(router)))
    assert (found.decisions, found.verified, found.differing, found.passed) == (508, 508, 0, True)
    other = replay(tmp_path / "log", plans_of(None, directory_of(make(NEW))))
    assert not other.passed
    assert "isn't in the registry" in next(iter(other.unverifiable))


THOMPSON = PolicyDocument(
    kind="thompson",
    document={
        "live": ["1", "2", "3"],
        "start": {"1": 0.3, "2": 0.7, "3": 0.5},
        "metric": "log_loss",
        "baseline": 0.6,
    },
)


def test_what_learned_draws_from_the_logged_vector(make, make_router, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    around = STICKY | {"explore": 0.3, "holdout": 0.2}
    router = make_router(policy=THOMPSON, context=CONTEXT, around=around, log=log, default="3")
    for seed in range(3):
        answer = router.predict(rows(400, seed))
        router.feedback({"decision": d.id, "reward": float(d.chosen == "1")} for d in answer.decisions)
    assert len({decision.propensity for decision in answer.decisions}) >= 1
    log.close()
    found = replay(tmp_path / "log", plans_of(None, directory_of(router)))
    assert (found.verified, found.differing) == (1200, 0)
    (file,) = (tmp_path / "log").glob("decisions-*")
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines[0]["draws"] = [(draw + (1 << 63)) % (1 << 64) for draw in lines[0]["draws"]]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert replay(tmp_path / "log", plans_of(None, directory_of(router))).differing > 50
    with pytest.raises(ReplayImpossible, match="learns as it goes"):
        replay_as(tmp_path / "log", *plan_in(directory_of(router)))


def test_a_changed_line_is_found(make, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    router = make(OLD, log, {"explore": 0.3})
    router.predict(rows(40), request="all")
    log.close()
    (file,) = (tmp_path / "log").glob("decisions-*")
    line = json.loads(file.read_text())
    line["context"]["carrier"]["values"][7] = "ZZ" if line["context"]["carrier"]["values"][7] != "ZZ" else "AA"
    line["draws"][9] ^= 1 << 63
    file.write_text(json.dumps(line) + "\n")
    found = replay(tmp_path / "log", plans_of(None, directory_of(router)))
    assert 1 <= found.differing <= 2
    assert {item.decision for item in found.mismatches} <= {"all/7", "all/9"}
    assert not found.passed


def test_hidden_context_cannot_be_verified(make, tmp_path):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    router = make(OLD, log, decisions={"redact": ["carrier"]})
    router.predict(rows(40))
    bare = make(OLD, log, log_context=False)
    bare.predict(rows(40))
    log.close()
    for decided in (router, bare):
        found = replay(tmp_path / "log", plans_of(None, directory_of(decided)))
        assert found.verified == 0
        assert any("carrier" in reason for reason in found.unverifiable)


def test_the_command_verifies_and_estimates(make, tmp_path, capsys):
    log = open_log(f"jsonl:{tmp_path / 'log'}")
    router = make(OLD, log, {"explore": 0.3})
    serve(router, "jsonl", count=1500)
    log.close()
    place = str(tmp_path / "log")
    assert main(["replay", place, "--directory", str(directory_of(router))]) == 0
    assert "1,501 decisions were made once more" in capsys.readouterr().out
    new = str(directory_of(make(NEW)))
    assert main(["replay", place, "-f", new, "-o", "json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["estimates"]["dr"]["low"] < told["estimates"]["dr"]["value"]
    assert main(["replay", place, "-f", new]) == 0
    shown = capsys.readouterr().out
    assert "doubly robust" in shown
    assert "effective sample size" in shown
    certain = open_log(f"jsonl:{tmp_path / 'certain'}")
    serve(make(OLD, certain), "jsonl", count=300)
    certain.close()
    assert main(["replay", str(tmp_path / "certain"), "-f", new]) == 1
    assert "without support" in capsys.readouterr().out
    assert main(["replay", str(tmp_path / "nowhere"), "-f", new]) == 2
    assert "no such file" in capsys.readouterr().err


def test_several_readers_of_one_log(make, tmp_path):
    """Lines and Parquet side by side are one log, in its order."""
    for scheme in ("parquet", "jsonl"):
        log = open_log(f"{scheme}:{tmp_path / 'log'}")
        make(OLD, log).predict(rows(10), request=scheme)
        log.close()
    assert [block.request for block in open_reader(str(tmp_path / "log")).blocks()] == ["parquet", "jsonl"]
