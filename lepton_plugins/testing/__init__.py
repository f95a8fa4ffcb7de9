"""The contract kit: what an author runs on their own policy, backend, store, target or deployer.

Subclass a contract in a test module and name what is to be checked; pytest runs its checks, and
`MyContract.check()` runs them without pytest:

    from acme_lepton.office_hours import OfficeHours
    from lepton_plugins.testing import PolicyContract

    class TestOfficeHours(PolicyContract):
        policy = OfficeHours
        params = {"day": 2, "night": 1}
        columns = {"hour": [0, 8, 12, 17, 23]}

A policy that learns has `LearningContract`, a store of learning state `StateStoreContract`. A broken rule is an
AssertionError that says what was found and what was expected.
"""

from lepton_plugins.testing.backend import BackendContract
from lepton_plugins.testing.contract import Contract, ContractBroken
from lepton_plugins.testing.deployer import DeployerContract
from lepton_plugins.testing.deployment import write_deployment
from lepton_plugins.testing.evidence import paired_predictions
from lepton_plugins.testing.learning import LearningContract
from lepton_plugins.testing.policy import PolicyContract
from lepton_plugins.testing.state import StateStoreContract
from lepton_plugins.testing.store import StoreContract
from lepton_plugins.testing.target import TargetContract

__all__ = [
    "BackendContract",
    "Contract",
    "ContractBroken",
    "DeployerContract",
    "LearningContract",
    "PolicyContract",
    "StateStoreContract",
    "StoreContract",
    "TargetContract",
    "paired_predictions",
    "write_deployment",
]
