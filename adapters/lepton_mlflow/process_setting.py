"""MLflow's process-wide tracking URI, lent to one call that reads it although its client has its own.

MLflow's SQL store looks the LoggedModel behind a new version up through the process's setting, not
through its own database (a TODO in its `create_model_version`). A server does that for its clients: there
nothing is set, since the setting is an environment variable too, and another thread that lists the
environment meanwhile (`requests` does, for proxies) fails when the variable goes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_VARIABLE = "MLFLOW_TRACKING_URI"
_lock = threading.Lock()


@contextmanager
def process_tracking_uri(uri: str) -> Iterator[None]:
    """For the time of the block the process's tracking URI is `uri`, where that is a database's.

    What was set before is set again.
    """
    import mlflow
    from mlflow.utils.uri import is_databricks_uri, is_http_uri

    if is_http_uri(uri) or is_databricks_uri(uri):
        yield
        return

    with _lock:
        if mlflow.get_tracking_uri() == uri:
            yield
            return
        before = os.environ.get(_VARIABLE)
        mlflow.set_tracking_uri(uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
            # `set_tracking_uri` writes the variable as well, and takes it away: it is what was set before.
            if before is not None:
                os.environ[_VARIABLE] = before
