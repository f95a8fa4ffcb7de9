"""Folders, the wheel's list of packages and entry points say the same."""

from __future__ import annotations

import tomllib
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROLES = ("adapters", "policies")


def packages() -> set[str]:
    return {
        f"{role}/{path.name}" for role in ROLES for path in (ROOT / role).iterdir() if path.is_dir() and has_code(path)
    }


def has_code(path: Path) -> bool:
    return any(path.rglob("*.py"))


def test_role_folders_are_no_packages() -> None:
    for role in ROLES:
        assert not (ROOT / role / "__init__.py").exists()
    assert PROJECT["tool"]["hatch"]["build"]["dev-mode-dirs"] == [".", *ROLES]


def test_the_wheel_holds_every_package() -> None:
    listed = set(PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert listed == packages() | {"lepton_plugins"}


def test_every_package_is_importable_under_a_name_of_its_own() -> None:
    names = [path.partition("/")[2] for path in packages()]
    assert len(set(names)) == len(names)
    for path in packages():
        assert (ROOT / path / "__init__.py").is_file(), f"{path} lacks __init__.py"
        assert path.partition("/")[2].startswith("lepton_")


def test_every_plugin_module_is_an_entry_point_and_the_other_way_round() -> None:
    declared = PROJECT["project"]["entry-points"]["lepton_plugins"]
    modules = {f"{path.partition('/')[2]}.plugin" for path in packages() if (ROOT / path / "plugin.py").is_file()}
    assert set(declared.values()) == modules
    assert declared == {module.removeprefix("lepton_").removesuffix(".plugin"): module for module in modules}


def test_what_is_installed_is_what_the_project_declares() -> None:
    installed = {
        entry.name: entry.value
        for entry in entry_points(group="lepton_plugins")
        if entry.dist is not None and entry.dist.name == "lepton-plugins"
    }
    assert installed == PROJECT["project"]["entry-points"]["lepton_plugins"], "install again: pip install -e ."


@pytest.mark.parametrize("group", ["mlflow.deployments", "mlflow.model_evaluator"])
def test_entry_points_of_other_tools_can_be_imported(group: str) -> None:
    for value in PROJECT["project"]["entry-points"][group].values():
        module, _, name = value.partition(":")
        assert not name or hasattr(import_module(module), name)
        import_module(module)


def test_mypy_and_ruff_know_every_package() -> None:
    names = {path.partition("/")[2] for path in packages()} | {"lepton_plugins"}
    assert set(PROJECT["tool"]["mypy"]["packages"]) == names
    assert set(PROJECT["tool"]["ruff"]["lint"]["isort"]["known-first-party"]) >= names


def test_all_contains_every_extra_but_those_it_says_it_leaves_out() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    listed = set(extras["all"][0].partition("[")[2].rstrip("]").split(","))
    assert set(extras) - listed == {"all", "bench", "quickstart", "test", "torch"}


def test_tests_mirror_the_code_by_folder() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
