"""The decision log in Parquet: what goes in comes out, crashes lose nothing, old files go."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

import lepton_files.index
import lepton_files.parquet
import lepton_files.sealing
from lepton_files.jsonl import JsonLinesDecisionLog, read_blocks, read_feedback
from lepton_files.parquet import seal
from lepton_files.parquet_log import ParquetDecisionLog
from lepton_plugins.errors import InvalidInput, LogUnreadable
from lepton_plugins.plugins import plugins
from lepton_plugins.records.decision import Feedback
from lepton_plugins.routing.decision_lines import encode_block
from lepton_plugins.routing.store import DecisionBlock, open_log, open_reader
from lepton_plugins.testing import StoreContract

from .conftest import block


class TestContract(StoreContract):
    def open(self, folder: Path) -> ParquetDecisionLog:
        return ParquetDecisionLog(f"parquet://{folder}?max_age=1s")


def told(blocks: list[DecisionBlock]) -> list[str]:
    return [str(decision) for item in blocks for decision in item.rows()]


def test_blocks_come_back_bit_for_bit_from_columns(tmp_path):
    log = ParquetDecisionLog(tmp_path)
    written = [
        block("one"),
        block("two", rows=1, keys=None, fallback=None, shadows=(), forced=True, state="7"),
        block("three", rows=500, consulted=True),
        block("four", context={}),
        block("five", plan="sha256:" + "b" * 64, arms=("9", "1", "2")),
    ]
    for item in written:
        log.append(item)
    log.close()
    assert not list(tmp_path.glob("*.jsonl"))
    assert len(list(tmp_path.glob("decisions-*.parquet"))) == 2, "one for each set of context columns"
    found = {item.request: item for item in read_blocks(tmp_path)}
    for before in written:
        after = found[before.request]
        assert told([after]) == told([before])
        assert (after.keys is None, after.model, after.state) == (before.keys is None, before.model, before.state)
        for name, column in before.context.items():
            assert after.context[name].dtype == column.dtype
            np.testing.assert_array_equal(after.context[name], column)
            assert [type(value) for value in after.context[name]] == [type(value) for value in column]
        np.testing.assert_array_equal(after.vectors[after.cells], before.vectors[before.cells])


def test_anything_that_reads_parquet_reads_it(tmp_path):
    log = ParquetDecisionLog(tmp_path)
    log.append(block("one", context={"carrier": np.array(["AA", "UA", None], dtype=object)}))
    log.close()
    (file,) = tmp_path.glob("*.parquet")
    frame = pq.read_table(file).to_pandas()
    assert frame["context.carrier"].tolist()[:2] == ["AA", "UA"]
    assert set(frame["chosen"]) <= {"1", "2", "3"}
    assert frame["propensity"][0].sum() == pytest.approx(1)
    assert frame["request"].tolist() == ["one"] * 3


def test_old_lines_become_columns_while_the_log_is_open(tmp_path):
    log = ParquetDecisionLog(f"parquet://{tmp_path}?max_age=1s")
    log.append(block("one"))
    deadline = time.monotonic() + 20
    while not list(tmp_path.glob("*.parquet")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert log.feedback([Feedback(decision="one/1", reward=1.0)]).stored == 1
    log.append(block("two"))
    log.flush()
    assert [item.request for item in read_blocks(tmp_path)] == ["one", "two"]
    assert log.feedback([Feedback(decision=f"{name}/1", reward=0.0) for name in ("one", "two")]).duplicates == 1
    log.close()
    assert [(item.decision, decision.fallback) for item, decision in read_feedback(tmp_path)] == [
        ("one/1", "model_failed"),
        ("two/1", "model_failed"),
    ]


def test_feedback_finds_lines_that_become_columns_while_they_are_looked_for(tmp_path, monkeypatch):
    with_lines = JsonLinesDecisionLog(f"file://{tmp_path}")
    with_lines.append(block("one"))
    with_lines.close()
    listed = lepton_files.index.log_files

    def sealed_meanwhile(directory: Path, kind: str) -> list[Path]:
        found = listed(directory, kind)
        for file in found:
            if file.suffix == ".jsonl" and kind == "decisions":
                seal(file)
        return found

    monkeypatch.setattr(lepton_files.index, "log_files", sealed_meanwhile)
    log = JsonLinesDecisionLog(f"file://{tmp_path}")
    assert log.feedback([Feedback(decision="one/1", reward=1.0)]).stored == 1
    log.close()


@pytest.mark.parametrize("python", [sys.executable, "/nowhere/python"], ids=["another process", "here without one"])
def test_columns_are_made_apart_from_who_answers(tmp_path, monkeypatch, python):
    def here(journal: Path) -> list[Path]:
        assert python == "/nowhere/python"
        return seal(journal)

    monkeypatch.setattr(lepton_files.sealing, "seal", here)
    journal = tmp_path / "decisions-20260101T000000.000000Z-00000000.jsonl"
    journal.write_bytes(encode_block(block("one")))
    with monkeypatch.context() as patch:
        patch.setattr(lepton_files.sealing.sys, "executable", python)
        lepton_files.sealing.seal_apart(journal)
    assert not journal.exists()
    assert [item.request for item in read_blocks(tmp_path)] == ["one"]


def test_feedback_is_given_across_restarts_and_beside_other_processes(tmp_path):
    log = ParquetDecisionLog(tmp_path)
    for index in range(40):
        log.append(block(f"r{index}", rows=2))
    log.close()
    first, second = ParquetDecisionLog(tmp_path), JsonLinesDecisionLog(tmp_path)
    second.append(block("new"))
    second.flush()
    items = [Feedback(decision=f"r{index}/1", reward=1.0) for index in range(40)]
    receipt = first.feedback([*items, Feedback(decision="new/0", reward=1.0), Feedback(decision="r1/2", reward=1.0)])
    assert (receipt.stored, receipt.duplicates, list(receipt.unknown)) == (41, 0, ["r1/2"])
    assert second.feedback(items).duplicates == 40
    first.close()
    second.close()


def test_a_killed_process_loses_no_written_decision(tmp_path):
    script = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import block
from lepton_files.parquet_log import ParquetDecisionLog
log = ParquetDecisionLog({str(tmp_path)!r})
for index in range(50):
    log.append(block(f"r{{index}}"))
log.flush()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", script], check=False)
    (journal,) = tmp_path.glob("*.jsonl")
    with journal.open("ab") as stream:
        stream.write(b'{"kind":"decisions","request":"torn')
    assert len(list(read_blocks(tmp_path))) == 50
    log = ParquetDecisionLog(tmp_path)
    log.turn()
    assert journal.exists(), "another process may be writing it"
    os.utime(journal, (1_700_000_000, 1_700_000_000))
    log.turn()
    assert not journal.exists()
    log.close()
    assert [item.request for item in read_blocks(tmp_path)] == [f"r{index}" for index in range(50)]


def test_an_interrupted_turn_into_columns_counts_nothing_twice(tmp_path, monkeypatch):
    journal = tmp_path / "decisions-20260101T000000.000000Z-00000000.jsonl"
    journal.write_bytes(encode_block(block("one")) + encode_block(block("two", context={})))
    real = Path.unlink
    monkeypatch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        seal(journal)
    monkeypatch.setattr(Path, "unlink", real)
    assert len(list(tmp_path.glob("*.parquet"))) == 2
    assert [item.request for item in read_blocks(tmp_path)] == ["one", "two"]
    (tmp_path / f".{journal.stem}+2.parquet.part").write_bytes(b"half")
    seal(journal)
    assert sorted(item.request for item in read_blocks(tmp_path)) == ["one", "two"]


def test_lines_that_cannot_become_columns_stay(tmp_path, monkeypatch, caplog):
    log = ParquetDecisionLog(tmp_path)
    log.append(block("one"))
    monkeypatch.setattr(
        lepton_files.parquet, "table_of", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    log.close()
    assert "No space left" in caplog.text
    assert [item.request for item in read_blocks(tmp_path)] == ["one"]


def test_files_go_when_their_time_is_over(tmp_path):
    log = ParquetDecisionLog(f"parquet://{tmp_path}?keep=30d")
    log.append(block("old"))
    log.close()
    for file in tmp_path.glob("*.parquet"):
        os.utime(file, (time.time() - 31 * 86400,) * 2)
    strange = tmp_path / "notes-2020.txt"
    strange.write_text("mine")
    os.utime(strange, (0, 0))
    again = ParquetDecisionLog(f"parquet://{tmp_path}?keep=30d")
    again.append(block("new"))
    again.turn()
    again.close()
    assert [item.request for item in read_blocks(tmp_path)] == ["new"]
    assert strange.exists()


def test_it_opens_by_uri_and_reads_back(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    log = open_log("parquet:log?max_rows=7")
    assert isinstance(log, ParquetDecisionLog)
    assert log.directory == tmp_path / "log"
    assert pickle.loads(pickle.dumps(log)).directory == log.directory
    log.append(block("one"))
    log.close()
    for place in ("parquet:log", "log", str(next((tmp_path / "log").glob("*.parquet")))):
        assert [item.request for item in open_reader(place).blocks()] == ["one"]
    for wrong in ("parquet://host/path", "parquet:log?keep=forever", "parquet:log?colour=red"):
        with pytest.raises(InvalidInput, match="expected"):
            open_log(wrong)
    broken = tmp_path / "decisions-x.parquet"
    broken.write_bytes(b"PAR1 no")
    with pytest.raises(LogUnreadable, match=r"decisions-x\.parquet"):
        list(open_reader(str(broken)).blocks())
    assert plugins().by_scheme("store", "C:\\log").name == "jsonl", "no scheme has one letter"


def test_lines_alone_import_no_pyarrow(tmp_path):
    script = f"""
import sys
from lepton_plugins.routing.store import open_log
log = open_log({str(tmp_path)!r})
log.feedback([])
log.close()
assert "pyarrow" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True)
