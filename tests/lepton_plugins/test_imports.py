"""What importing costs, and in which direction imports go."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = {
    "bentoml",
    "evidently",
    "kserve",
    "matplotlib",
    "mlflow",
    "onnx",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "scipy",
    "skl2onnx",
    "sklearn",
    "torch",
}
ROLES = ("adapters", "policies")


def imported_by(code: str, *arguments: str) -> set[str]:
    """The top-level packages in sys.modules after running code in a fresh process."""
    tail = "\nimport sys; print('\\n'.join(sorted({name.partition('.')[0] for name in sys.modules})), file=sys.stderr)"
    command = [sys.executable, "-c", code + tail, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


def test_importing_the_core_imports_nothing_heavy() -> None:
    found = imported_by("import lepton_plugins")
    assert not found & (HEAVY | {"numpy", "pydantic", "typer", "rich", "starlette"})


def test_importing_the_facade_imports_nothing_heavy() -> None:
    assert not imported_by("from lepton_plugins import ModelRegistry") & HEAVY


def test_loading_all_plugins_imports_nothing_heavy() -> None:
    code = (
        "from lepton_plugins.plugins import plugins\nassert all(s.error is None for s in plugins().statuses.values())"
    )
    assert not imported_by(code) & HEAVY


def test_the_command_line_starts_with_typer_and_rich_alone() -> None:
    code = "from lepton_plugins.cli.main import main\nassert main(sys.argv[1:]) == 0"
    found = imported_by("import sys\n" + code, "--help")
    assert not found & (HEAVY | {"numpy", "pydantic", "starlette", "uvicorn", "yaml", "msgspec"})


def test_listing_plugins_on_the_command_line_imports_nothing_heavy() -> None:
    code = "import sys\nfrom lepton_plugins.cli.main import main\nassert main(['plugins']) == 0"
    assert not imported_by(code) & HEAVY


@pytest.mark.parametrize("module", ["lepton_plugins.serving.app", "lepton_plugins.routing.router"])
def test_the_serving_path_imports_nothing_heavy(module: str) -> None:
    assert not imported_by(f"import {module}") & HEAVY


def test_every_module_of_the_core_can_be_imported_without_heavy_packages() -> None:
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "lepton_plugins").rglob("*.py"))
    ]
    code = "import importlib, sys\nfor name in sys.argv[1:]: importlib.import_module(name)"
    assert not imported_by(code, *modules) & HEAVY


def imports_of(path: Path) -> dict[str, int]:
    """Every module that a file imports, anywhere in it, with the line."""
    found: dict[str, int] = {}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name: node.lineno for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            found[node.module] = node.lineno
    return found


def modules() -> dict[str, Path]:
    """Every module of ours and its file."""
    found = {}
    for home, role in ((ROOT, "lepton_plugins"), *((ROOT / role, ".") for role in ROLES)):
        for path in sorted((home / role).rglob("*.py")):
            found[".".join(path.relative_to(home).with_suffix("").parts).removesuffix(".__init__")] = path
    return found


def imported_when_run(path: Path) -> set[str]:
    """What a file imports, also inside its functions, but for what only a type checker sees; names included."""
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            left += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        left += ast.iter_child_nodes(node)
    return found


def packages_of(role: str) -> set[str]:
    return {path.name for path in (ROOT / role).iterdir() if (path / "__init__.py").is_file()}


def test_the_core_imports_no_adapter_and_no_policy() -> None:
    outer = packages_of("adapters") | packages_of("policies")
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in sorted((ROOT / "lepton_plugins").rglob("*.py"))
        for name, line in imports_of(path).items()
        if name.partition(".")[0] in outer
    ]
    assert wrong == []


def test_adapters_and_policies_do_not_import_each_other() -> None:
    # The seed document's import name is an alias of the core; adapters meet only through records and protocols.
    outer = packages_of("adapters") | packages_of("policies")
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for role in ROLES
        for package in sorted(packages_of(role))
        for path in sorted((ROOT / role / package).rglob("*.py"))
        for name, line in imports_of(path).items()
        if name.partition(".")[0] in outer - {package}
    ]
    assert wrong == []


def test_plugin_modules_import_the_core_alone() -> None:
    for role in ROLES:
        for path in sorted((ROOT / role).glob("*/plugin.py")):
            tops = {name.partition(".")[0] for name in imports_of(path)}
            assert tops <= {"__future__", "lepton_plugins"}, path


def test_no_modules_import_each_other_in_a_circle() -> None:
    """An import inside a function is there to put a heavy package off, not to hide a circle."""
    known = modules()
    # A package's own face is imported by what is in it, for the version and the markers of hooks.
    faces = {name for name, path in known.items() if path.name == "__init__.py"}
    graph = {name: imported_when_run(path) & known.keys() - {name} - faces for name, path in known.items()}
    while free := {name for name, needed in graph.items() if not needed}:
        graph = {name: needed - free for name, needed in graph.items() if name not in free}
    assert graph == {}, "these wait for each other, or for some that do"
