"""What the targets' tests share: an environment without Lepton, and processes that end with the test."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import serving


class BareEnvironment:
    """A virtual environment on links to the installed packages, those of Lepton left out."""

    def __init__(self, folder: Path) -> None:
        packages = folder / "packages"
        packages.mkdir(parents=True)
        for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if "lepton" not in entry.name and entry.suffix != ".pth":
                (packages / entry.name).symlink_to(entry)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
        (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        (site / "packages.pth").write_text(f"{packages}\n")
        self.bin = folder / "venv" / "bin"
        self.python = str(self.bin / "python")
        script = self.bin / "uvicorn"  # `mlflow models serve` starts it by name.
        script.write_text(f"#!{self.python}\nfrom uvicorn.main import main\nmain()\n")
        script.chmod(0o755)
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
        self.env["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        self.env["PATH"] = f"{self.bin}{os.pathsep}{os.environ['PATH']}"

    def run(self, code: str, *arguments: str, cwd: Path) -> str:
        """What a program prints; AssertionError with its errors if it fails."""
        done = subprocess.run(
            [self.python, "-c", code, *arguments], env=self.env, cwd=cwd, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stdout

    @contextmanager
    def serving(
        self, command: Sequence[str], ready: str, cwd: Path, env: Mapping[str, str] | None = None
    ) -> Iterator[float]:
        """A server process of this environment; yields the seconds until `ready` (a URL) answered 200."""
        with serving(command, ready, cwd, {**self.env, **(env or {})}) as seconds:
            yield seconds


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory: pytest.TempPathFactory) -> BareEnvironment:
    return BareEnvironment(tmp_path_factory.mktemp("bare"))
