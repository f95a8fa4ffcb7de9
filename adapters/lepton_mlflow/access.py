"""Access to an MLflow registry: the client, made on first use, and MLflow's errors said in Lepton's words."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from lepton_mlflow.faults import translate, without_password
from lepton_mlflow.quiet import quiet
from lepton_plugins.errors import DiskFull, InvalidInput, LeptonError, RegistryUnreachable

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: A server that doesn't answer within this time counts as unreachable.
_PROBE_SECONDS = 5.0
#: After this time without an answer the server is probed again before the next call.
_TRUST_SECONDS = 10.0


class Access:
    """The way to one registry. Thread-safe; imports MLflow on first use.

    An empty `uri` is MLflow's own setting (MLFLOW_TRACKING_URI, MLFLOW_REGISTRY_URI, or what
    `mlflow.set_tracking_uri` said).
    """

    def __init__(self, uri: str) -> None:
        self._given = uri
        self._answered_at = float("-inf")

    @cached_property
    def uris(self) -> tuple[str, str]:
        """The tracking and the registry URI."""
        if self._given.startswith("databricks-uc"):
            return self._given.replace("databricks-uc", "databricks", 1), self._given
        if self._given:
            return self._given, self._given
        import mlflow

        return mlflow.get_tracking_uri(), mlflow.get_registry_uri()

    @property
    def uri(self) -> str:
        return self.uris[1]

    @property
    def shown_uri(self) -> str:
        """The URI for messages, without a password."""
        return without_password(self.uri)

    @property
    def sqlite_file(self) -> Path | None:
        """The database file of a sqlite registry."""
        if not self.uri.startswith("sqlite:///"):
            return None
        path = self.uri.removeprefix("sqlite:///")
        # SQLite's own URI form, `sqlite:///file:/path?mode=ro&uri=true`.
        return Path(path.partition("?")[0].removeprefix("file:"))

    @property
    def opened_read_only(self) -> bool:
        return self.sqlite_file is not None and parse_qs(urlsplit(self.uri).query).get("mode") == ["ro"]

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        tracking, registry = self.uris
        return MlflowClient(tracking_uri=tracking, registry_uri=registry)

    @contextmanager
    def doing(self, action: str, *, creating: bool = False) -> Iterator[MlflowClient]:
        """A block of MLflow calls; `action` ends the sentence "failed to …".

        Whatever MLflow raises in it leaves as a LeptonError. `creating` lets a sqlite database that isn't
        there yet be made, as MLflow does on first use; without it that is RegistryUnreachable.
        """
        with quiet():
            try:
                self._reach(creating)
                yield self._client
                self._answered_at = time.monotonic()
            except LeptonError:
                raise
            except (TypeError, AttributeError, NameError, AssertionError):
                raise  # A bug, here or in MLflow: its trace is wanted.
            except Exception as error:
                raise translate(error, self.shown_uri, action) from error

    def _reach(self, creating: bool) -> None:
        if time.monotonic() - self._answered_at < _TRUST_SECONDS:
            return
        file = self.sqlite_file
        if file is not None and str(file) not in ("", ":memory:") and not file.exists():
            if not file.absolute().parent.is_dir():
                raise RegistryUnreachable(self.shown_uri, f"there is no folder {file.absolute().parent}")
            if not creating:
                raise RegistryUnreachable(
                    self.shown_uri, f"there is no database {file} yet; registering a model makes it"
                )
        if Path(self.uri).is_file():
            raise InvalidInput(
                f"The registry {self.shown_uri}: found a file's path, expected an address. If it is MLflow's SQLite "
                f"database: sqlite:///{self.uri.removeprefix('./')}"
            )
        if self.uri.startswith(("http://", "https://")):
            self._probe()

    def _probe(self) -> None:
        """One request without retries: any answer at all means that something listens there."""
        from mlflow.exceptions import MlflowException
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request

        try:
            http_request(
                get_default_host_creds(self.uri),
                "/version",
                "GET",
                max_retries=0,
                timeout=_PROBE_SECONDS,
                raise_on_status=False,
            )
        except MlflowException as error:
            raise translate(error, self.shown_uri, "answer", reached=False) from error

    # --- files -----------------------------------------------------------------------------

    def download(self, uri: str, path: str, to: Path) -> Path:
        """Copy the file or folder `path` below an artifact URI into the folder `to`; "" is all of it.

        To be called inside `doing`.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        tracking, registry = self.uris
        repository = get_artifact_repository(uri, tracking_uri=tracking, registry_uri=registry)
        with _room_for(to):
            return Path(repository.download_artifacts(path, dst_path=str(to)))

    def download_file(self, uri: str, path: str, to: Path) -> None:
        """Copy one file below an artifact URI to the file `to`, in one request; to be called inside `doing`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        tracking, registry = self.uris
        repository = get_artifact_repository(uri, tracking_uri=tracking, registry_uri=registry)
        # What every repository implements; the public method first asks whether the path is a folder.
        with _room_for(to):
            repository._download_file(path, str(to))

    def delete_files(self, uri: str, path: str | None = None) -> None:
        """Delete what lies below an artifact URI, where its store can; to be called inside `doing`."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        tracking, registry = self.uris
        repository = get_artifact_repository(uri, tracking_uri=tracking, registry_uri=registry)
        try:
            repository.delete_artifacts(path)
        except (NotImplementedError, FileNotFoundError):
            return


@contextmanager
def _room_for(to: Path) -> Iterator[None]:
    """A full disk here is no fault of the registry's."""
    try:
        yield
    except Exception as error:
        if not DiskFull.told_by(error):
            raise
        raise DiskFull(to, "set TMPDIR to a place that has room") from error
