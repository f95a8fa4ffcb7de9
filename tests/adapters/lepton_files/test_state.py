"""Learning state in files: whole after a crash, shared by processes."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lepton_files.state import FileStateStore
from lepton_plugins.errors import InvalidInput, StateAway, StateInvalid
from lepton_plugins.records.plan import PolicyDocument
from lepton_plugins.routing.learner import Learner
from lepton_plugins.routing.learning_state import Flush, MemoryStateStore, StateStore, Sums, open_state
from lepton_plugins.testing import StateStoreContract
from lepton_selection.epsilon_greedy import EpsilonGreedy


class TestFiles(StateStoreContract):
    def open(self, folder: Path) -> StateStore:
        return FileStateStore(folder)


class TestMemory(StateStoreContract):
    durable = False

    def open(self, folder: Path) -> StateStore:
        return MemoryStateStore()


def flush(replica: str, number: int) -> Flush:
    return Flush(replica, number, {"a": Sums(0, np.full(2000, 1.0))})


def test_processes_that_write_at_once_lose_nothing(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from lepton_files.state import FileStateStore\n"
        "from lepton_plugins.routing.learning_state import Flush, Sums\n"
        "store = FileStateStore(sys.argv[1])\n"
        "for number in range(1, 31):\n"
        "    store.exchange('m', [], Flush(sys.argv[2], number, {'a': Sums(0, np.ones(50))}))\n"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path), name]) for name in ("one", "two", "three")
    ]
    assert [process.wait(60) for process in running] == [0, 0, 0]
    assert FileStateStore(tmp_path).exchange("m", ["a"], None)["a"].values[0] == 90


def test_a_crash_while_writing_leaves_a_whole_file(tmp_path: Path) -> None:
    script = (
        "import sys, numpy as np\n"
        "from lepton_files.state import FileStateStore\n"
        "from lepton_plugins.routing.learning_state import Flush, Sums\n"
        "store = FileStateStore(sys.argv[1])\n"
        "for number in range(1, 100000):\n"
        "    store.exchange('m', [], Flush('r', number, {'a': Sums(0, np.ones(20000))}))\n"
        "    print(number, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    told = [b"1\n", *process.stdout.readlines()]
    process.wait(10)
    last = int(told[-1])
    store = FileStateStore(tmp_path)
    found = store.exchange("m", ["a"], None)["a"].values
    assert found.min() == found.max()
    assert last <= found[0] <= last + 1


def test_what_is_no_state_is_told_and_left_alone(tmp_path: Path) -> None:
    store = FileStateStore(tmp_path)
    store.exchange("m", ["a"], flush("r", 1))
    (file,) = tmp_path.glob("*.state")
    content = file.read_bytes()
    for wrong, said in ((b"hello", "other content"), (content[:-9] + b"X" + content[-8:], "doesn't have the digest")):
        file.write_bytes(wrong)
        with pytest.raises(StateInvalid, match=said):
            store.exchange("m", ["a"], flush("r", 2))
        assert file.read_bytes() == wrong
    assert b"cpickle" not in content
    assert b"numpy" not in content


def test_a_directory_that_cannot_be_written_is_away(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = FileStateStore(tmp_path / "file" / "state")
    assert store.exchange("m", ["a"], None) == {}
    with pytest.raises(StateAway, match="can't be reached"):
        store.exchange("m", ["a"], flush("r", 1))


def test_it_is_opened_by_a_path_or_uri_and_pickles(tmp_path: Path) -> None:
    open_state(f"file://{tmp_path}/state").exchange("m", [], flush("r", 1))
    again = pickle.loads(pickle.dumps(open_state(str(tmp_path / "state"))))
    assert again.exchange("m", ["a"], None)["a"].values[0] == 1
    with pytest.raises(InvalidInput, match="Schemes: file, redis"):
        open_state("kafka://host/state")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_flushes_nothing_of_its_parents(tmp_path: Path) -> None:
    """What the parent learned and hasn't flushed is the parent's; what the child learns is its own."""
    arms = ["1", "2"]
    document = {"live": arms, "metric": "mse", "baseline": None, "start": {"1": 0.5, "2": 0.5}}
    policy = EpsilonGreedy(PolicyDocument(kind="epsilon_greedy", document=document), {}, arms, 0)
    learner = Learner(policy, FileStateStore(tmp_path), "m", arms, interval=3600)
    learner.start()
    learner.learn(0, {}, 1.0, 0.5, 0.0)
    child = os.fork()
    if child == 0:
        try:
            learner.learn(1, {}, 1.0, 0.5, 0.0)
            learner.exchange()
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    learner.exchange()
    assert policy._learned()[:, 0].tolist() == [1, 1]
    learner.close()
