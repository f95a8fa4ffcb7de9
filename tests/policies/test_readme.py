"""policies/README.md: its plan parses and its policies exist."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import yaml

from lepton_plugins.planning.spec_file import parse_spec
from lepton_plugins.plugins import plugins

TEXT = (Path(__file__).parents[2] / "policies" / "README.md").read_text(encoding="utf-8")


def test_every_policy_it_names_exists() -> None:
    named = set(re.findall(r"^\*\*`(\w+)`\*\*", TEXT, re.MULTILINE))
    assert {"weighted", "segment_best", "rules", "learned", "cascade", "ensemble", "thompson", "lints"} <= named
    assert named <= set(plugins().offers("policy"))
    for kind in plugins().offers("policy"):
        assert f"`{kind}`" in TEXT


def test_its_plans_are_ones() -> None:
    blocks = re.findall(r"\n\n((?:    .*\n)+)", TEXT)
    specs = [parse_spec({"model": "m", **yaml.safe_load(textwrap.dedent(block))}) for block in blocks]
    assert [spec.policy.kind for spec in specs] == ["rules", "lints", "weighted"]
    assert specs[2].around.degrade is not None
    assert len(specs[0].policy.params["rules"]) == 3
    for spec in specs:
        plugins().load("policy", spec.policy.kind).Params.model_validate(spec.policy.params)
