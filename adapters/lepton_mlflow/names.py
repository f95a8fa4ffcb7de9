"""What Lepton calls its things in MLflow: tags, experiments, artifacts. Everything of its own starts with `lepton`."""

from __future__ import annotations

import re

# Tags of model versions.
LABEL = "lepton.label"
FRAMEWORK = "lepton.framework"
META = "lepton.meta."
DIGEST = "lepton.digest"
REPORT = "lepton.report"
METRIC = "lepton.metric."

# Tags of registered models.
PLAN = "lepton.plan"
EXPERIMENT = "lepton.experiment"

# Tags of runs and experiments.
KIND = "lepton.kind"
LEDGER = "lepton.ledger"
FILES = "lepton.files"

#: Without it MLflow opens an experiment on its page for language models.
OPENS_ON_RUNS = {"mlflow.experimentKind": "custom_model_development"}

#: The alias of the default arm of the plan in force.
CHAMPION = "lepton-champion"

#: The folder of Lepton's artifacts in a run.
FOLDER = "lepton"
REPORT_FILE = "lepton/report.json"
PLAN_FILE = "lepton/plan.json"
POLICY_FOLDER = "lepton/policy"

#: MLflow's own limits: https://mlflow.org/docs/latest and `mlflow/utils/validation.py`.
DESCRIPTION_LIMIT = 5000
#: A version's tag may hold 100,000 characters in MLflow, but 64 KiB in a MySQL behind it.
VERSION_TAG_LIMIT = 60_000
PARAM_LIMIT = 5000
RUN_TAG_LIMIT = 5000
KEY_LIMIT = 250


def experiment_name(model: str) -> str:
    """The experiment that holds a model's reports, plans and activations."""
    return f"lepton/{model}"


def is_ours(tag: str) -> bool:
    """Whether a tag is one that Lepton wrote."""
    return tag == "lepton" or tag.startswith("lepton.")


def key_part(text: str) -> str:
    """Text as a part of a metric's or tag's key: characters that MLflow refuses become `_`."""
    return re.sub(r"[^\w.\- :]", "_", text).strip(" .:") or "_"


def quoted(text: str) -> str:
    """A string for MLflow's filter language, which knows no escapes."""
    return f'"{text}"' if "'" in text else f"'{text}'"
