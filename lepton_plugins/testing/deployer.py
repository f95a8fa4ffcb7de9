"""The contract of deployers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import uuid4

import numpy as np

from lepton_plugins.deployer import Deployer
from lepton_plugins.errors import DeploymentExists, DeploymentNotFound, InvalidInput, LeptonError
from lepton_plugins.routing.router import Router
from lepton_plugins.testing.contract import Contract, ContractBroken, require
from lepton_plugins.testing.deployment import write_deployment


class DeployerContract(Contract):
    """What every deployer keeps. Name it and its place, where deployments are made for real and taken away again."""

    #: What the TargetOffer's deployer names.
    deployer: ClassVar[Callable[[str], Deployer]]
    #: What stands behind the target in its URI.
    place: ClassVar[str] = ""
    #: Options, as `-C key=value` gives them.
    options: ClassVar[Mapping[str, str]] = {}
    #: Whether a deployment can be asked from here.
    answers: ClassVar[bool] = True

    def test_it_says_what_it_takes(self) -> None:
        require(type(self).deployer(self.place).help.strip(), "help is empty")

    def test_what_is_not_there_is_said_and_can_be_deleted(self) -> None:
        with _Shop(self) as shop:
            refused(DeploymentNotFound, "get of a name that isn't there", lambda: shop.deployer.get(shop.name))
            refused(DeploymentNotFound, "predict", lambda: shop.deployer.predict(shop.name, [{"x": 1.0}]))
            refused(DeploymentNotFound, "update", lambda: shop.deployer.update(shop.name, shop.one, self.options))
            require(shop.fetched == 0, "the deployment was fetched before it was known that there is none to update")
            shop.deployer.delete(shop.name, {})

    def test_unknown_options_are_errors(self) -> None:
        wrong = {**self.options, "no_such_option": "1"}
        with _Shop(self) as shop:
            refused(InvalidInput, "create with -C no_such_option=1", lambda: shop.create(wrong))
            refused(DeploymentNotFound, "get after it was refused", lambda: shop.deployer.get(shop.name))

    def test_a_life(self) -> None:
        with _Shop(self) as shop:
            made = shop.create(self.options)
            require(made["name"] == shop.name, f"create returned the name {made['name']!r}, expected {shop.name!r}")
            again = type(self).deployer(self.place)  # Of a later command, in another process.
            require(shop.name in names(again), f"list has {names(again)}, expected {shop.name!r} among them")
            fetched = shop.fetched
            refused(DeploymentExists, "create under a name that is there", lambda: shop.create(self.options))
            require(shop.fetched == fetched, "the deployment was fetched before it was known that the name is taken")
            if self.answers:
                shop.ask(shop.one())
            changed = again.update(shop.name, shop.other, self.options)
            require(changed["name"] == shop.name, f"update returned the name {changed['name']!r}")
            require(names(again).count(shop.name) == 1, f"after an update list has {names(again)}, expected it once")
            again.delete(shop.name, {})
            require(shop.name not in names(again), "list still has it after delete")
            refused(DeploymentNotFound, "get after delete", lambda: again.get(shop.name))
            again.delete(shop.name, {})


class _Shop:
    """A deployer, two plans of a model, and a name of this check's own, which is free again afterwards."""

    def __init__(self, contract: DeployerContract) -> None:
        self.deployer = type(contract).deployer(contract.place)
        self.name = f"lepton-contract-{uuid4().hex[:8]}"
        self.fetched = 0

    def __enter__(self) -> _Shop:
        self._folder = TemporaryDirectory(prefix="lepton-contract-")
        root = Path(self._folder.name)
        write_deployment(root / "one")
        plan = write_deployment(root / "other")
        (root / "other" / "plan.json").write_bytes(plan.model_copy(update={"default": "2"}).content)
        return self

    def __exit__(self, *exception: object) -> None:
        with self._folder:
            self.deployer.delete(self.name, {})

    def one(self) -> Path:
        self.fetched += 1
        return Path(self._folder.name) / "one"

    def other(self) -> Path:
        return Path(self._folder.name) / "other"

    def create(self, options: Mapping[str, str]) -> Mapping[str, Any]:
        return self.deployer.create(self.name, self.one, options)

    def ask(self, directory: Path) -> None:
        rows = [{"x": float(number), "unit": f"unit-{number}"} for number in range(20)]
        found = list(self.deployer.predict(self.name, rows))
        with Router.load(directory) as router:
            columns = {"x": np.arange(20, dtype=np.float64), "unit": np.array([row["unit"] for row in rows])}
            expected = router.predict(columns).values
        require(len(found) == len(rows), f"predict gave {len(found)} answers to {len(rows)} rows")
        require(np.allclose(found, expected, atol=1e-6), f"predict gave {found}, the router gives {list(expected)}")


def names(deployer: Deployer) -> list[str]:
    """Of the deployments that it lists."""
    return [str(found["name"]) for found in deployer.list()]


def refused(error: type[LeptonError], what: str, call: Callable[[], object]) -> None:
    """The call must raise this error."""
    try:
        found = call()
    except error:
        return
    except Exception as other:
        raise ContractBroken(f"{what} raised {type(other).__name__} ({other}), expected {error.__name__}") from other
    raise ContractBroken(f"{what} gave {found!r}, expected {error.__name__}")
