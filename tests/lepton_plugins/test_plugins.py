"""Plugins: found by entry points, asked through one funnel, isolated when broken."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path
from types import ModuleType

import pytest

from lepton_plugins import hookimpl, hookspecs
from lepton_plugins.errors import InvalidInput, PackageMissing, PluginClash, TargetBroken, UnknownPlugin
from lepton_plugins.plugins import FAMILIES, Plugins, plugins
from lepton_plugins.records.event import Event
from lepton_plugins.records.plugin import PolicyOffer, RegistryOffer, StoreOffer

HOOKS = [name for name in vars(hookspecs) if name.startswith("lepton_")]


def offer(name: str, target: str = "acme.policy:Policy", **more: object) -> PolicyOffer:
    return PolicyOffer(name=name, summary="a policy", target=target, **more)  # type: ignore[arg-type]


class Offering:
    """A plugin that offers these policies."""

    def __init__(self, *offers: object) -> None:
        self.offers = list(offers)

    @hookimpl
    def lepton_policies(self) -> list[object]:
        return self.offers


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on sys.path into which tests install distributions."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("stranger_"):
            del sys.modules[name]


def install(site: Path, distribution: str, plugin: str, body: str, entry: str | None = None) -> None:
    """A distribution with one entry point, as pip would leave it."""
    module = "stranger_" + re.sub(r"\W", "_", distribution)
    (site / f"{module}.py").write_text(textwrap.dedent(body))
    info = site / f"{distribution.replace('-', '_')}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[lepton_plugins]\n{plugin} = {entry or module}\n")


def loaded(site: Path) -> Plugins:
    """The plugins of the distributions in `site`, beside a good one by hand."""
    found: list[tuple[EntryPoint, Distribution]] = []
    for distribution in sorted(distributions(path=[str(site)]), key=lambda known: known.name):
        found += [(entry, distribution) for entry in distribution.entry_points if entry.group == "lepton_plugins"]
    made = Plugins()
    made.register(Offering(offer("good")), "by_hand")
    made.load_entry_points(found)
    return made


GOOD = """
    from lepton_plugins import hookimpl
    from lepton_plugins.records.plugin import PolicyOffer

    @hookimpl
    def lepton_policies():
        return [PolicyOffer(name="{name}", summary="fine", target="acme:Policy")]
"""


def test_first_party_plugins_come_in_by_entry_points() -> None:
    statuses = plugins().statuses
    assert {status.distribution for status in statuses.values()} >= {"lepton-plugins"}
    assert [status.error for status in statuses.values() if status.distribution == "lepton-plugins"] == [None] * sum(
        status.distribution == "lepton-plugins" for status in statuses.values()
    )
    assert {"segment_best", "weighted"} <= set(plugins().offers("policy"))
    assert {"onnxruntime", "pyfunc"} <= set(plugins().offers("backend"))
    assert "mlflow" in plugins().offers("registry")


def test_every_first_party_offer_can_be_loaded() -> None:
    for family in FAMILIES:
        for name, found in plugins().offers(family).items():
            if not found.missing():
                assert plugins().load(family, name) is not None


def test_all_plugins_load_within_a_tenth_of_a_second() -> None:
    fresh = Plugins()
    fresh.load_entry_points()
    assert sum(status.seconds for status in fresh.statuses.values()) < 0.1


@pytest.mark.parametrize(
    ("fault", "body", "told"),
    [
        (
            "import error",
            "import no_such_package_at_all",
            "ModuleNotFoundError: No module named 'no_such_package_at_all'",
        ),
        ("syntax error", "def broken(:", "SyntaxError"),
        ("exits at import", "raise SystemExit(3)", "SystemExit: 3"),
        ("panics at import", "class Panic(BaseException): pass\nraise Panic('out of luck')", "Panic: out of luck"),
        (
            "unknown hook",
            "from lepton_plugins import hookimpl\n@hookimpl\ndef lepton_policy(): return []",
            "unknown hook 'lepton_policy'",
        ),
        (
            "wrong argument",
            "from lepton_plugins import hookimpl\n@hookimpl\ndef lepton_event(happened): pass",
            "happened",
        ),
        (
            "a hook that raises",
            "from lepton_plugins import hookimpl\n@hookimpl\ndef lepton_policies(): return 1 / 0",
            "ZeroDivisionError: division by zero",
        ),
        (
            "a hook that exits",
            "from lepton_plugins import hookimpl\n@hookimpl\ndef lepton_policies(): raise SystemExit('bye')",
            "SystemExit: bye",
        ),
        (
            "not a list",
            "from lepton_plugins import hookimpl\n@hookimpl\ndef lepton_policies(): return 'weighted'",
            "expected a list of PolicyOffer",
        ),
        (
            "another record",
            "from lepton_plugins import hookimpl\nfrom lepton_plugins.records.plugin import SolverOffer\n"
            "@hookimpl\ndef lepton_policies(): return [SolverOffer(name='x', summary='', target='a:B')]",
            "expected a PolicyOffer",
        ),
        (
            "a misspelt field",
            "from lepton_plugins import hookimpl\nfrom lepton_plugins.records.plugin import PolicyOffer\n"
            "@hookimpl\ndef lepton_policies(): return [PolicyOffer(name='x', sumary='', target='a:B')]",
            "sumary",
        ),
        (
            "a target that is no import string",
            "from lepton_plugins import hookimpl\nfrom lepton_plugins.records.plugin import PolicyOffer\n"
            "@hookimpl\ndef lepton_policies(): return [PolicyOffer(name='x', summary='', target='a.B')]",
            "expected an import string",
        ),
        (
            "one name twice",
            "from lepton_plugins import hookimpl\nfrom lepton_plugins.records.plugin import PolicyOffer\n"
            "@hookimpl\ndef lepton_policies(): return [PolicyOffer(name='x', summary='', target='a:B')] * 2",
            "each name once",
        ),
    ],
)
def test_a_broken_plugin_is_isolated_and_says_why(site: Path, fault: str, body: str, told: str) -> None:
    install(site, "acme-broken", "broken", body)
    install(site, "acme-fine", "fine", GOOD.format(name="fine"))
    found = loaded(site)
    status = found.statuses["broken"]
    assert status.error is not None, fault
    assert told in status.error
    assert status.provider == "acme-broken 1.2"
    assert set(found.offers("policy")) == {"fine", "good"}
    found.tell(Event(kind="registered", model="m"))


def test_a_clash_of_offers_names_both_distributions(site: Path) -> None:
    install(site, "acme-one", "one", GOOD.format(name="office_hours"))
    install(site, "acme-two", "two", GOOD.format(name="office_hours"))
    found = loaded(site)
    with pytest.raises(PluginClash, match=r"office_hours.*acme-one 1\.2 and by acme-two 1\.2"):
        found.offers("policy")
    assert [str(clash) for clash in found.clashes()] == [str(clash) for clash in found.clashes()]
    assert len(found.clashes()) == 1
    assert found.offers("backend") == {}, "the other families go on"


def test_two_distributions_may_use_one_entry_point_name(site: Path) -> None:
    install(site, "acme-one", "selection", GOOD.format(name="first"))
    install(site, "acme-two", "selection", GOOD.format(name="second"))
    found = loaded(site)
    assert {"first", "second"} <= set(found.offers("policy"))
    assert found.provider("policy", "second").distribution == "acme-two"
    assert "selection (acme-two)" in found.statuses


def test_two_registries_for_one_scheme_are_a_clash_and_not_a_matter_of_luck() -> None:
    class Registries:
        @hookimpl
        def lepton_registries(self) -> list[RegistryOffer]:
            return [
                RegistryOffer(name=name, summary="", target="a:B", schemes=("sqlite", name)) for name in ("one", "two")
            ]

    found = Plugins()
    found.register(Registries(), "registries")
    assert found.by_scheme("registry", "two://somewhere").name == "two"
    with pytest.raises(PluginClash, match=r"'one'.*'two'"):
        found.by_scheme("registry", "sqlite:///file.db")


def test_schemes_of_uris() -> None:
    class Stores:
        @hookimpl
        def lepton_stores(self) -> list[StoreOffer]:
            return [
                StoreOffer(name="files", summary="", target="a:B", schemes=("file",)),
                StoreOffer(name="database", summary="", target="a:B", schemes=("postgresql",)),
            ]

    found = Plugins()
    found.register(Stores(), "stores")
    for uri in ("/var/lib/lepton", "relative/path", "file:///var/lib", "C:\\lepton"):
        assert found.by_scheme("store", uri).name == "files"
    assert found.by_scheme("store", "postgresql+psycopg2://host/db").name == "database"
    registry = RegistryOffer(name="r", summary="", target="pathlib:Path", schemes=("r",), requires=("stranger_absent",))
    with pytest.raises(PackageMissing, match="The registry 'r' needs the package 'stranger_absent'"):
        registry.load()
    with pytest.raises(InvalidInput, match=r"'kafka://topic'.*Schemes: file, postgresql"):
        found.by_scheme("store", "kafka://topic")
    with pytest.raises(InvalidInput, match=r"scheme 'fiel'.* Did you mean 'file'\? A path is written \./fiel:log"):
        found.by_scheme("store", "fiel:log")
    for path in ("./fiel:log", "logs/fiel:log", "2026-11-22T18:00"):
        assert found.by_scheme("store", path).name == "files"


def test_an_unknown_name_tells_the_nearest() -> None:
    found = Plugins()
    found.register(Offering(offer("segment_best"), offer("weighted")), "mine")
    with pytest.raises(UnknownPlugin, match="Did you mean 'weighted'"):
        found.load("policy", "wieghted")


def test_what_an_offer_needs_is_told_when_it_is_used() -> None:
    found = Plugins()
    found.register(
        Offering(
            offer("needy", "stranger_absent.policy:P", requires=("stranger_absent",), install="pip install stranger"),
            offer("gone", "lepton_plugins.no_such_module:P"),
            offer("nameless", "lepton_plugins.errors:NoSuchClass"),
        ),
        "mine",
    )
    with pytest.raises(PackageMissing, match="pip install stranger"):
        found.load("policy", "needy")
    for name in ("gone", "nameless"):
        with pytest.raises(TargetBroken, match=name):
            found.load("policy", name)
    assert found.offer("policy", "needy").missing() == ("stranger_absent",)


def test_events_reach_every_plugin_and_one_that_fails_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        @hookimpl
        def lepton_event(self, event: Event) -> None:
            raise SystemExit(9)

    class Listening:
        heard: list[Event] = []

        @hookimpl
        def lepton_event(self, event: Event) -> None:
            self.heard.append(event)

    found = Plugins()
    found.register(Listening(), "listening")
    found.register(Failing(), "failing")
    found.register(Listening(), "listening too")
    found.tell(Event(kind="promoted", model="flights", detail={"revision": 3}))
    assert [event.kind for event in Listening.heard] == ["promoted", "promoted"]
    assert "plugin 'failing' failed on 'promoted': SystemExit: 9" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_plugin_registered_twice_by_hand_is_refused() -> None:
    found = Plugins()
    found.register(Offering(), "mine")
    with pytest.raises(PluginClash):
        found.register(Offering(), "mine")


# --- the hooks' documentation ------------------------------------------------------------------


def snippet(hook: str) -> str:
    """The complete plugin in a hook's docstring."""
    document = inspect.getdoc(getattr(hookspecs, hook)) or ""
    _, _, code = document.partition("complete plugin::\n")
    return textwrap.dedent(code)


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hooks_docstring_holds_a_plugin_that_works(hook: str) -> None:
    code = snippet(hook)
    assert code, f"{hook} has no complete plugin in its docstring"
    assert "versionadded::" in (inspect.getdoc(getattr(hookspecs, hook)) or "")
    names = {node.name for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef)}
    assert names == {hook}
    module = ModuleType("snippet")
    exec(compile(code, f"<{hook}>", "exec"), module.__dict__)
    found = Plugins()
    status = found.register(module, "snippet")
    assert status.error is None
    if hook == "lepton_event":
        found.tell(Event(kind="promoted", model="flights", detail={"revision": 3}))
    else:
        family = next(family for family, (name, _) in FAMILIES.items() if name == hook)
        assert len(found.offers(family)) == 1


def test_every_offering_hook_has_a_family() -> None:
    assert {name for name, _ in FAMILIES.values()} == set(HOOKS) - {"lepton_event"}


def test_the_readme_lists_every_hook() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert [hook for hook in HOOKS if f"`{hook}`" not in readme] == []


def test_a_broken_plugin_does_not_keep_the_command_line_from_working(site: Path) -> None:
    install(site, "acme-broken", "broken", "raise SystemExit(3)")
    done = subprocess.run(
        [sys.executable, "-m", "lepton_plugins.cli.main", "plugins"],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin", "COLUMNS": "100"},
        check=False,
    )
    assert done.returncode == 1
    assert "failed: SystemExit: 3" in done.stdout
    assert "segment_best" in done.stdout
    assert "plugin 'broken' of acme-broken 1.2 failed to load: SystemExit: 3" in done.stderr
    assert "Traceback" not in done.stderr
