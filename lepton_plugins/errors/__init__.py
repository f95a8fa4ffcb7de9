"""Every failure that Lepton reports on purpose: one class per fact, one file per part.

A class takes the facts and writes its own sentence: what was found, what was expected, what to do
next. `code` is stable and appears in the CLI's JSON, in the data plane's error bodies and in logs.
"""

from lepton_plugins.errors.base import *  # noqa: F403
from lepton_plugins.errors.deployments import *  # noqa: F403
from lepton_plugins.errors.evaluation import *  # noqa: F403
from lepton_plugins.errors.learning import *  # noqa: F403
from lepton_plugins.errors.models import *  # noqa: F403
from lepton_plugins.errors.planning import *  # noqa: F403
from lepton_plugins.errors.plugins import *  # noqa: F403
from lepton_plugins.errors.quickstart import *  # noqa: F403
from lepton_plugins.errors.registry import *  # noqa: F403
from lepton_plugins.errors.replay import *  # noqa: F403
from lepton_plugins.errors.revisions import *  # noqa: F403
from lepton_plugins.errors.serving import *  # noqa: F403
from lepton_plugins.errors.targets import *  # noqa: F403
