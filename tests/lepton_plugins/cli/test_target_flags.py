"""Each option of a target is a flag of `lepton generate`, a stranger's as well."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from pydantic import ConfigDict, Field

from lepton_plugins import generate, hookimpl
from lepton_plugins.embedding import files_below
from lepton_plugins.plugins import Plugins
from lepton_plugins.records.plugin import TargetOffer
from lepton_plugins.records.record import Record
from lepton_plugins.testing import write_deployment


class Options(Record):
    model_config = ConfigDict(use_attribute_docstrings=True)

    listen_on: int = 8080
    """The port of the unit."""
    user: Literal["nobody", "www"] | None = None
    restart: bool = False
    """Whether it comes back."""
    unit: Path | None = Field(default=None, alias="from")
    to: str | None = None


class SystemdTarget:
    Options = Options

    def render(self, plan: Any, directory: Path, to: Path, options: Options) -> list[Path]:
        (to / "said.yaml").write_text(yaml.safe_dump(options.model_dump(mode="json")))
        return files_below(to)

    def missing(self) -> dict[str, str]:
        return {}


class Stranger:
    @hookimpl
    def lepton_targets(self) -> list[TargetOffer]:
        return [TargetOffer(name="systemd", summary="A unit", target=f"{__name__}:SystemdTarget")]


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stranger's target, and a deployment to render."""
    found = Plugins()
    found.load_entry_points()
    found.register(Stranger(), "stranger", "stranger")
    monkeypatch.setattr(generate, "plugins", lambda: found)
    monkeypatch.setattr(TargetOffer, "load", lambda self: SystemdTarget)
    write_deployment(tmp_path / "deployment")
    return tmp_path / "deployment"


def test_a_strangers_options_are_flags(lepton: Callable[..., Any], systemd: Path, tmp_path: Path) -> None:
    flags = ["--listen-on", "9000", "--user=www", "--restart", "--from", "/etc/unit"]
    ran = lepton("generate", "--target", "systemd", *flags, systemd, "--to", tmp_path / "to")
    assert ran.code == 0, ran.err
    said = yaml.safe_load((tmp_path / "to" / "said.yaml").read_text())
    # --to is the command's own; the option of that name is said by --option.
    assert said == {"listen_on": 9000, "user": "www", "restart": True, "unit": "/etc/unit", "to": None}
    flags = ["--no-restart", "--option", "to=there", "--option", "listen_on=1"]
    assert lepton("generate", systemd, "--target=systemd", "--to", tmp_path / "two", *flags).code == 0
    said = yaml.safe_load((tmp_path / "two" / "said.yaml").read_text())
    assert (said["listen_on"], said["restart"], said["to"]) == (1, False, "there")


def test_the_help_shows_them(lepton: Callable[..., Any], systemd: Path) -> None:
    text = re.sub(r"[│\s]+", " ", lepton("generate", "--target", "systemd", "--help").out)
    assert "--listen-on N The port of the unit." in text
    assert "--user nobody|www" in text
    assert re.search(r"--restart --no-restart (<bool> )?Whether it comes back\.", text)
    assert "--from PATH" in text
    assert "Options of the target" not in lepton("generate", "--help").out


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--listen", "1"], "No such option: --listen"),
        (["--listen-on", "many"], "listen_on: found 'many', expected a valid integer"),
        (["--listen-on", "1", "--option", "listen_on=2"], "the key 'listen_on' is given twice"),
        (["--option", "listenon=2"], "has no option 'listenon'. Did you mean 'listen_on'?"),
    ],
)
def test_wrong_ones_are_one_line(
    flags: list[str], told: str, lepton: Callable[..., Any], systemd: Path, tmp_path: Path
) -> None:
    ran = lepton("generate", systemd, "--target", "systemd", "--to", tmp_path / "to", *flags)
    assert ran.code == 2
    assert told in ran.err
    assert len(ran.err.strip().splitlines()) == 1


def test_the_documented_commands(lepton: Callable[..., Any], tmp_path: Path) -> None:
    write_deployment(tmp_path / "deployment")
    flags = ["--name", "late", "--namespace", "ml", "--service-account", "reader", "--models", "s3://bucket/models"]
    flags += ["--lepton-requirement", "lepton-plugins==0.1.0"]
    ran = lepton("generate", tmp_path / "deployment", "--target", "kserve", "--to", tmp_path / "to", *flags)
    assert ran.code == 0, ran.err
    manifest = yaml.safe_load((tmp_path / "to" / "inferenceservice.yaml").read_text())
    assert (manifest["metadata"]["name"], manifest["metadata"]["namespace"]) == ("late", "ml")
    assert manifest["spec"]["predictor"]["serviceAccountName"] == "reader"
    assert "lepton-plugins==0.1.0" in (tmp_path / "to" / "image" / "requirements.txt").read_text().splitlines()
    assert not (tmp_path / "to" / "image" / "packages").exists()
    for target in ("mlflow", "bentoml"):
        to = tmp_path / target
        assert lepton("generate", tmp_path / "deployment", "--target", target, "--to", to, *flags[-2:]).code == 0
