"""The decision log in JSON Lines: what goes in comes out, feedback finds its decision, nothing waits."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lepton_files.jsonl import JsonLinesDecisionLog, read, read_blocks, read_feedback
from lepton_files.writer import LineFile
from lepton_plugins.errors import InvalidInput, PathMissing
from lepton_plugins.plugins import plugins
from lepton_plugins.records.decision import Decision, Feedback

from .conftest import block


@pytest.fixture
def log(tmp_path):
    log = JsonLinesDecisionLog(tmp_path / "decisions")
    yield log
    log.close()


def test_blocks_come_back_bit_for_bit(log):
    written = [block("one"), block("two", rows=1), block("three", fallback=None, keys=None, shadows=(), forced=True)]
    for item in written:
        log.append(item)
    log.flush()
    for before, after in zip(written, read_blocks(log.directory), strict=True):
        assert [str(decision) for decision in after.rows()] == [str(decision) for decision in before.rows()]
        for name, column in before.context.items():
            assert after.context[name].dtype == column.dtype
            np.testing.assert_array_equal(after.context[name], column)
        for name in ("chosen", "served", "draws"):
            np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
        np.testing.assert_array_equal(after.vectors[after.cells], before.vectors[before.cells])
        assert [after.reasons[c] for c in after.cells] == [before.reasons[c] for c in before.cells]
        assert [after.segments[c] for c in after.cells] == [before.segments[c] for c in before.cells]
        assert after.keys == before.keys
        assert after.fallback == before.fallback
        assert (after.request, after.time, after.plan, after.forced, after.shadows) == (
            before.request,
            before.time,
            before.plan,
            before.forced,
            before.shadows,
        )


@pytest.mark.parametrize("rows", [3, 500])
def test_one_block_that_has_no_text_takes_no_other_with_it(log, caplog, rows):
    log.append(block("first", rows))
    log.append(block("torn", rows, plan="\ud800"))
    log.append(block("last", rows))
    log.flush()
    assert [one.request for one in read_blocks(log.directory)] == ["first", "last"]
    assert log.dropped == rows
    assert "a request's decisions can't be written" in caplog.text


def test_only_cells_in_use_are_written(log):
    log.append(block("one", rows=1))
    log.flush()
    (line,) = (json.loads(text) for file in log.directory.glob("*.jsonl") for text in file.read_text().splitlines())
    assert line["reasons"] == ["reason 4"]
    assert line["cells"] == [0]


def test_feedback_is_stored_with_its_decision_once(log):
    log.append(block("one"))
    receipt = log.feedback(
        [
            Feedback(decision="one/0", reward=1.0),
            Feedback(decision="one/1", label="late"),
            Feedback(decision="one/0", reward=0.0),
            Feedback(decision="one/3", reward=1.0),
            Feedback(decision="two/0", reward=1.0),
            Feedback(decision="one", reward=1.0),
            Feedback(decision="one/²", reward=1.0),
        ]
    )
    assert (receipt.stored, receipt.duplicates) == (2, 1)
    assert receipt.unknown == ["one/3", "two/0", "one", "one/²"]
    again = log.feedback([Feedback(decision="one/1", label="ontime")])
    assert (again.stored, again.duplicates) == (0, 1)
    stored = list(read_feedback(log.directory))
    assert [(feedback.decision, feedback.reward, feedback.label) for feedback, _ in stored] == [
        ("one/0", 1.0, None),
        ("one/1", None, "late"),
    ]
    decisions = [item for item in read(log.directory) if isinstance(item, Decision)]
    assert [decision.id for _, decision in stored] == ["one/0", "one/1"]
    assert stored[1][1].fallback == decisions[1].fallback == "model_failed"
    assert sum(isinstance(item, Feedback) for item in read(log.directory)) == 2


def test_what_is_known_survives_a_restart(tmp_path):
    with_log = JsonLinesDecisionLog(tmp_path)
    with_log.append(block("one"))
    assert with_log.feedback([Feedback(decision="one/0", reward=1.0)]).stored == 1
    with_log.close()
    restarted = JsonLinesDecisionLog(tmp_path)
    receipt = restarted.feedback([Feedback(decision=f"one/{row}", reward=1.0) for row in range(4)])
    assert (receipt.stored, receipt.duplicates, receipt.unknown) == (2, 1, ["one/3"])
    restarted.close()


def test_two_processes_share_a_directory(tmp_path):
    ours = JsonLinesDecisionLog(tmp_path)
    theirs = JsonLinesDecisionLog(tmp_path)
    assert ours.feedback([Feedback(decision="one/0", reward=1.0)]).unknown == ["one/0"]
    theirs.append(block("one"))
    theirs.flush()
    assert ours.feedback([Feedback(decision="one/0", reward=1.0)]).stored == 1
    assert theirs.feedback([Feedback(decision="one/0", reward=1.0)]).duplicates == 1
    ours.close()
    theirs.close()


def test_the_same_feedback_at_two_places_counts_once(tmp_path):
    first, second = JsonLinesDecisionLog(tmp_path), JsonLinesDecisionLog(tmp_path)
    first.append(block("one", rows=200))
    first.flush()
    stored: list[int] = []

    def send(log: JsonLinesDecisionLog) -> None:
        for row in range(200):
            stored.append(log.feedback([Feedback(decision=f"one/{row}", reward=1.0)]).stored)

    threads = [threading.Thread(target=send, args=(log,)) for log in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(stored) == 200
    first.close()
    second.close()


def test_files_are_rotated_by_size_and_read_in_order(tmp_path):
    log = JsonLinesDecisionLog(tmp_path, max_bytes=4000)
    for index in range(30):
        log.append(block(f"r{index}"))
        log.flush()
    log.close()
    files = list(tmp_path.glob("decisions-*.jsonl"))
    assert len(files) > 3
    assert all(file.stat().st_size <= 4000 for file in files)
    assert [item.request for item in read_blocks(tmp_path)] == [f"r{index}" for index in range(30)]


def test_appending_never_waits_and_drops_are_counted(tmp_path, monkeypatch):
    log = JsonLinesDecisionLog(tmp_path, max_rows=100)
    release = threading.Event()
    real = log._writer._file.write
    monkeypatch.setattr(log._writer._file, "write", lambda lines: release.wait(20) and real(lines))
    longest = 0.0
    for index in range(300):
        started = time.perf_counter()
        log.append(block(f"r{index}", rows=1))
        longest = max(longest, time.perf_counter() - started)
        time.sleep(0.0005)
    assert longest < 0.5
    assert log.dropped == 200
    release.set()
    log.close()
    assert len(list(read_blocks(tmp_path))) == 100
    log.append(block("late", rows=2))
    assert log.dropped == 202


def test_a_full_disk_stops_nothing(tmp_path, caplog):
    log = JsonLinesDecisionLog(tmp_path)
    log.append(block("one"))
    log.flush()
    broken = log._writer._file

    class Full:
        def write(self, lines):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

        def fileno(self):
            return 0

    broken._stream.close()
    broken._stream = Full()
    log.append(block("two"))
    log._writer.drain()
    assert log.dropped == 3
    assert "No space left" in caplog.text
    log.append(block("three"))
    log.close()
    assert [item.request for item in read_blocks(tmp_path)] == ["one", "three"]


def test_a_disk_that_stays_full_gets_no_file_for_each_request(tmp_path, monkeypatch):
    file = LineFile(tmp_path, "decisions", 1000)
    real = Path.open

    def full(path, mode):
        real(path, mode).close()
        return real(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", full)
    for _ in range(3):
        with pytest.raises(OSError, match="No space left"):
            file.write(b"a line\n")
    monkeypatch.undo()
    assert list(tmp_path.iterdir()) == []
    file.write(b"a line\n")
    file.close()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"a line\n"]


def test_torn_and_foreign_lines_are_left_out(tmp_path):
    log = JsonLinesDecisionLog(tmp_path)
    log.append(block("one"))
    log.close()
    (file,) = tmp_path.glob("decisions-*.jsonl")
    with file.open("ab") as stream:
        stream.write(b'{"kind":"decisions","request":"two","ro')
    (tmp_path / "decisions-20200101T000000.000000Z-00000000.jsonl").write_text('garbage\n{"kind":"other"}\n')
    assert [item.request for item in read_blocks(tmp_path)] == ["one"]
    again = JsonLinesDecisionLog(tmp_path)
    assert again.feedback([Feedback(decision="one/0", reward=1.0)]).stored == 1
    again.close()


def test_what_is_queued_is_written_when_the_process_ends(tmp_path):
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from conftest import block
from lepton_files.jsonl import JsonLinesDecisionLog
log = JsonLinesDecisionLog({str(tmp_path)!r})
for index in range(50):
    log.append(block(f"r{{index}}"))
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    assert len(list(read_blocks(tmp_path))) == 50


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_writes_files_of_its_own(tmp_path):
    log = JsonLinesDecisionLog(tmp_path)
    log.append(block("parent"))
    log.flush()
    child = os.fork()
    if child == 0:
        log.append(block("child"))
        log.flush()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    log.close()
    assert sorted(item.request for item in read_blocks(tmp_path)) == ["child", "parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_feedback_in_a_forked_worker(tmp_path):
    log = JsonLinesDecisionLog(tmp_path)
    log.append(block("r"))
    log.flush()
    assert log.feedback([Feedback(decision="r/0", reward=1.0)]).stored == 1
    with log._lock:  # As if another of the parent's threads gave feedback at that moment.
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            log.append(block("s"))
            os._exit(0 if log.feedback([Feedback(decision="s/0", reward=1.0)]).stored == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        receipt = log.feedback([Feedback(decision="r/0", reward=1.0), Feedback(decision="r/1", reward=1.0)])
        log.close()
        os._exit(0 if (receipt.stored, receipt.duplicates) == (1, 1) else 1)
    assert os.waitpid(child, 0)[1] == 0
    log.close()
    assert len(list(tmp_path.glob("feedback-*.jsonl"))) == 3, "each process writes a file of its own"
    assert sorted(item.decision for item, _ in read_feedback(tmp_path)) == ["r/0", "r/1", "s/0"]


def test_it_opens_by_uri_and_refuses_what_it_cannot_use(tmp_path):
    offer = plugins().by_scheme("store", f"jsonl://{tmp_path}/log?max_bytes=1000")
    log = offer.load()(f"jsonl://{tmp_path}/log?max_bytes=1000&max_rows=7")
    assert log.directory == tmp_path / "log"
    assert pickle.loads(pickle.dumps(log)).directory == log.directory
    log.close()
    for wrong in ("jsonl://host/path", f"jsonl://{tmp_path}/log?colour=red", f"jsonl://{tmp_path}?max_bytes=many"):
        with pytest.raises(InvalidInput, match="expected"):
            JsonLinesDecisionLog(wrong)
    (tmp_path / "file").write_text("")
    with pytest.raises(InvalidInput, match="can't be kept"):
        JsonLinesDecisionLog(tmp_path / "file" / "log")
    with pytest.raises(PathMissing):
        list(read(tmp_path / "nowhere"))
