"""What all contracts share: they are run by pytest, or by `check()`."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


class ContractBroken(AssertionError):
    """A rule of the contract that doesn't hold: what was found, what was expected."""


class Contract:
    """A set of checks, each a method `test_…` without arguments."""

    @classmethod
    def check(cls) -> None:
        """Run every check; ContractBroken lists all that failed."""
        failed = []
        for name in sorted(name for name in dir(cls) if name.startswith("test_")):
            try:
                getattr(cls(), name)()
            except AssertionError as error:
                failed.append(f"{name}: {error}")
            except Exception as error:
                failed.append(f"{name}: {type(error).__name__}: {error}")
        if failed:
            raise ContractBroken("\n".join(failed))


def require(condition: object, message: str) -> None:
    """The rule must hold, also under `python -O`."""
    if not condition:
        raise ContractBroken(message)


def at_once(call: Callable[[], T], threads: int = 8) -> list[T]:
    """What a call returns when several threads make it at the same time."""
    with ThreadPoolExecutor(threads) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(threads * 4)]]
