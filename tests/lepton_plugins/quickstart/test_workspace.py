"""The directory: what may be used, what is used again, what is left alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lepton_plugins.errors import DirectoryNotOurs, DirectoryUnwritable, QuickstartRunning
from lepton_plugins.quickstart.workspace import open_workspace

MADE = {"lepton": "1", "sample": 1.0}


def test_a_new_directory_is_made(tmp_path: Path) -> None:
    with open_workspace(tmp_path / "a" / "b", MADE, fresh=False) as (workspace, note):
        assert workspace.root.is_dir()
        assert note == "A new directory."


def test_a_second_run_finds_what_the_first_one_made(tmp_path: Path) -> None:
    with open_workspace(tmp_path, MADE, fresh=False) as (workspace, _):
        workspace.model_file("v1").write_text("model")
    with open_workspace(tmp_path, MADE, fresh=False) as (workspace, note):
        assert workspace.model_file("v1").exists()
        assert "used again" in note


@pytest.mark.parametrize(("made_with", "fresh"), [({**MADE, "sample": 0.5}, False), (MADE, True)])
def test_starting_afresh_removes_only_what_a_quickstart_made(
    tmp_path: Path, made_with: dict[str, object], fresh: bool
) -> None:
    with open_workspace(tmp_path, MADE, fresh=False) as (workspace, _):
        workspace.model_file("v1").write_text("model")
        workspace.artifacts.mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    with open_workspace(tmp_path, made_with, fresh=fresh) as (workspace, note):
        assert "afresh" in note
        assert not workspace.model_file("v1").exists()
        assert not workspace.artifacts.exists()
        assert (tmp_path / "notes.txt").read_text() == "mine"


def test_an_interrupted_first_run_can_be_repeated(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), open_workspace(tmp_path, MADE, fresh=False):
        raise KeyboardInterrupt
    with open_workspace(tmp_path, MADE, fresh=False) as (_, note):
        assert "used again" in note


def test_somebody_elses_directory_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(DirectoryNotOurs, match=r"thesis\.tex"), open_workspace(tmp_path, MADE, fresh=True):
        pass
    assert [entry.name for entry in tmp_path.iterdir() if entry.name != ".lock"] == ["thesis.tex"]


def test_a_directory_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(DirectoryUnwritable, match="Name another directory"), open_workspace(file, MADE, fresh=False):
        pass
    with pytest.raises(DirectoryUnwritable), open_workspace(file / "below", MADE, fresh=False):
        pass


def test_two_runs_at_once_in_one_directory_are_refused(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from lepton_plugins.errors import QuickstartRunning\n"
        "from lepton_plugins.quickstart.workspace import open_workspace\n"
        "try:\n"
        "    with open_workspace(Path(sys.argv[1]), {}, fresh=False): pass\n"
        "except QuickstartRunning as error: print(error)\n"
    )
    with open_workspace(tmp_path, {}, fresh=False):
        other = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=30
        )
    assert str(QuickstartRunning(tmp_path)) in other.stdout
