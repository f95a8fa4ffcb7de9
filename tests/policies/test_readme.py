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
    assert {"weighted", "segment_best", "rules", "learned", "cascade", "ensemble"} <= named
    assert named <= set(plugins().offers("policy"))


def test_its_plan_is_one() -> None:
    (block,) = re.findall(r"\n\n((?:    .*\n)+)", TEXT)
    spec = parse_spec({"model": "m", **yaml.safe_load(textwrap.dedent(block))})
    assert spec.policy.kind == "rules"
    assert len(spec.policy.params["rules"]) == 3
