"""Rendering into a place where something is already."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lepton_plugins.errors import LeptonError, PlaceTaken, PlaceUnwritable
from lepton_plugins.generate import generate
from lepton_plugins.testing import write_deployment


@pytest.fixture
def rendered(tmp_path: Path) -> Path:
    write_deployment(tmp_path / "deployment")
    generate(tmp_path / "deployment", "bentoml", tmp_path / "to", {})
    return tmp_path / "to"


def _bytes(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_was_rendered_before_is_replaced(rendered: Path) -> None:
    (rendered / "packages" / "lepton_plugins" / "__pycache__").mkdir()
    (rendered / "packages" / "lepton_plugins" / "__pycache__" / "plugins.cpython-311.pyc").write_bytes(b"of a run")
    made = generate(rendered.parent / "deployment", "bentoml", rendered, {"name": "another"})
    assert {file.as_posix() for file in made.files} == set(_bytes(rendered)), "nothing of before stays"
    assert "another" in (rendered / "service.py").read_text()
    assert sorted(path.name for path in rendered.parent.iterdir()) == ["deployment", "to"]


def test_the_record_is_one_that_sha256sum_reads(rendered: Path) -> None:
    command = ["sha256sum", "--check", "--quiet", ".lepton-generated"]
    checked = subprocess.run(command, cwd=rendered, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stdout) == (0, ""), checked.stderr


def test_what_somebody_changed_or_added_is_not_lost(rendered: Path) -> None:
    (rendered / "service.py").write_text("# mine")
    (rendered / "notes.md").write_text("mine")
    before = _bytes(rendered)
    with pytest.raises(PlaceTaken, match=r"added since: notes\.md; changed since: service\.py.*Name another"):
        generate(rendered.parent / "deployment", "bentoml", rendered, {})
    assert _bytes(rendered) == before


def test_what_is_not_of_lepton_is_left_alone(rendered: Path) -> None:
    for place in (rendered.parent, rendered / "service.py"):
        with pytest.raises(PlaceTaken, match="expected a new directory"):
            generate(rendered.parent / "deployment", "bentoml", place, {})


def test_where_rendering_anew_fails_the_one_before_stays(rendered: Path) -> None:
    before = _bytes(rendered)
    options = {"register": True, "registry": "nosuch://registry"}
    with pytest.raises(LeptonError):
        generate(rendered.parent / "deployment", "mlflow", rendered, options)
    assert _bytes(rendered) == before
    assert sorted(path.name for path in rendered.parent.iterdir()) == ["deployment", "to"]


_KILLED = """
import os, signal, sys
from pathlib import Path
import lepton_plugins.generate as generating

step, deployment, to = sys.argv[1:]
last = getattr(generating, step)

def killed(*given):
    last(*given)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(generating, step, killed)
generating.generate(Path(deployment), "bentoml", Path(to), {"name": "another"})
"""


@pytest.mark.skipif(os.name != "posix", reason="it is killed by a signal")
@pytest.mark.parametrize("step", ["put", "write_record"])
def test_a_run_that_is_killed_leaves_the_one_before_whole(rendered: Path, step: str) -> None:
    before = _bytes(rendered)
    command = [sys.executable, "-c", _KILLED, step, str(rendered.parent / "deployment"), str(rendered)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGKILL
    assert _bytes(rendered) == before
    generate(rendered.parent / "deployment", "bentoml", rendered, {"name": "another"})
    assert "another" in (rendered / "service.py").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it takes two renames")
def test_whoever_looks_while_it_is_replaced_finds_all_of_it(rendered: Path) -> None:
    done, looks = threading.Event(), []
    last = rendered / ".lepton-generated"

    def look() -> None:
        while not done.is_set():
            looks.append(last.exists())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for name in ("another", "third"):
            generate(rendered.parent / "deployment", "bentoml", rendered, {"name": name})
    finally:
        done.set()
        looking.join()
    assert len(looks) > 100
    assert all(looks)


def test_a_link_to_the_place_stays_one(rendered: Path) -> None:
    link = rendered.with_name("link")
    link.symlink_to(rendered)
    generate(rendered.parent / "deployment", "bentoml", link, {"name": "another"})
    assert link.is_symlink()
    assert "another" in (rendered / "service.py").read_text()


@pytest.mark.skipif(os.name != "posix", reason="/dev/full and /proc are Linux's")
def test_a_place_that_cannot_be_written_is_told(rendered: Path) -> None:
    with pytest.raises(PlaceUnwritable, match="/proc/lepton: can't be written: "):
        generate(rendered.parent / "deployment", "bentoml", Path("/proc/lepton"), {})
