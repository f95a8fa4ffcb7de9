"""The contract of targets."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

from pydantic import ValidationError

from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.target import Target
from lepton_plugins.testing.contract import Contract, require
from lepton_plugins.testing.deployment import write_deployment

#: Where secrets are found in the environments that deployments are made in.
_SECRETS = {
    "MLFLOW_TRACKING_PASSWORD": "contract-secret-1",
    "MLFLOW_TRACKING_TOKEN": "contract-secret-2",
    "AWS_SECRET_ACCESS_KEY": "contract-secret-3",
    "LEPTON_TOKEN": "contract-secret-4-long-enough",
    "DATABRICKS_TOKEN": "contract-secret-5",
}


class TargetContract(Contract):
    """What every target keeps. Name it, and options without which it doesn't render."""

    #: The class that the TargetOffer's target names.
    target: ClassVar[type[Target]]
    #: Options, as `--option key=value` gives them.
    options: ClassVar[Mapping[str, Any]] = {}

    def test_unknown_options_are_errors(self) -> None:
        try:
            self.target.Options.model_validate({**self.options, "no_such_option": "1"})
        except ValidationError:
            return
        require(False, "Options accepted the unknown key 'no_such_option'; derive it from records.record.Record")

    def test_it_returns_what_it_wrote(self) -> None:
        with _Rendered(self) as rendered:
            returned, files = rendered.render("one")
            require(files, "render() wrote nothing")
            require(
                [path.as_posix() for path in returned] == sorted(files),
                f"render() returned {[str(path) for path in returned]}, expected the files it wrote, relative and "
                f"sorted: {sorted(files)}",
            )

    def test_two_renders_give_the_same_bytes(self) -> None:
        with _Rendered(self) as rendered:
            _, one = rendered.render("one")
            _, two = rendered.render("two")
            differing = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
            require(not differing, f"two renders of the same input differ in {differing}")

    def test_it_names_nothing_of_this_machine(self) -> None:
        with _Rendered(self) as rendered:
            _, files = rendered.render("one")
            here = {str(rendered.root), str(Path.home()), str(Path.cwd()), socket.gethostname()}
            for word in here - {"/", "", "localhost", "/root"}:  # These are true, or usual, everywhere.
                # A whole word: a host may be called `vm`.
                whole = re.compile(rb"(?<![\w-])" + re.escape(word.encode()) + rb"(?![\w-])")
                found = sorted(name for name, content in files.items() if whole.search(content))
                require(not found, f"{found} holds {word!r}, which is only true on this machine")

    def test_it_holds_no_secret(self) -> None:
        with patch.dict(os.environ, _SECRETS), _Rendered(self) as rendered:
            _, files = rendered.render("one")
            for variable, secret in _SECRETS.items():
                found = sorted(name for name, content in files.items() if secret.encode() in content)
                require(not found, f"{found} holds the value of {variable}")

    def test_the_deployment_directory_is_left_as_it_was(self) -> None:
        with _Rendered(self) as rendered:
            before = contents(rendered.deployment)
            rendered.render("one")
            require(contents(rendered.deployment) == before, "render() changed the deployment directory")

    def test_what_is_missing_can_be_installed(self) -> None:
        for package, command in self.target().missing().items():
            require(package and command, f"missing() names {package!r} without saying how to install it")


class _Rendered:
    """A deployment directory, and what a target makes of it."""

    def __init__(self, contract: TargetContract) -> None:
        self.contract = contract

    def __enter__(self) -> _Rendered:
        self.stack = ExitStack()
        self.root = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="lepton-contract-")))
        self.deployment = self.root / "deployment"
        self.plan: DeploymentPlan = write_deployment(self.deployment)
        return self

    def __exit__(self, *exception: object) -> None:
        self.stack.close()

    def render(self, name: str) -> tuple[list[Path], dict[str, bytes]]:
        to = self.root / name
        to.mkdir()
        target = self.contract.target()
        options = self.contract.target.Options.model_validate(dict(self.contract.options))
        return list(target.render(self.plan, self.deployment, to, options)), contents(to)


def contents(folder: Path) -> dict[str, bytes]:
    """The files below a folder by their relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }
