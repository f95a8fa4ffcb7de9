"""The router in a BentoML service, in two lines:

    from lepton_bentoml.service import RouterService

    @bentoml.service
    class Churn(RouterService, deployment="deployment"): ...

`deployment` is a deployment directory (`lepton pull churn --to deployment`). The class gets typed endpoints by the
plan's signature and the data plane; its bento lists the versions as BentoML models. Endpoints of your own stand
beside them and ask `self.router`. `lepton_bentoml.bounding.bounded` above `bentoml.service` keeps the limits of
LEPTON_LIMITS on all of them; without it only the data plane bounds bodies.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, ClassVar

import bentoml
import msgspec
import numpy as np
import pandas as pd
from _bentoml_sdk.service.dependency import Dependency  # type: ignore[import-untyped]
from bentoml import server_context
from bentoml._internal.configuration.containers import BentoMLContainer
from bentoml._internal.resource import system_resources
from bentoml.exceptions import BentoMLException, InvalidArgument
from pydantic import AfterValidator, WithJsonSchema
from starlette.applications import Starlette
from starlette.routing import Route

from lepton_bentoml.backend import DEPENDENCIES
from lepton_bentoml.models import BentoDeployment
from lepton_bentoml.rows import MatrixSchema, RowReader, RowsSchema, matrix_of, row_schema
from lepton_plugins.errors import NotReady, RequestInvalid
from lepton_plugins.records.plan import DeploymentPlan
from lepton_plugins.routing.inputs import Columns, numpy_dtype
from lepton_plugins.routing.prediction import Prediction
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.app import ServingApp
from lepton_plugins.serving.call import Answer, Call, headers_by_name
from lepton_plugins.serving.limiting import limits_from
from lepton_plugins.serving.routes import ROUTES
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.settings import ServingSettings, token_from

#: A batch of BentoML's holds at most so many rows, and waits at most so long, in milliseconds.
BATCH, WAIT = 1000, 10_000


class RouterService:
    """A BentoML service that answers by a plan. Subclasses name the plan's deployment directory.

    `deployment` is relative to the process's directory; `path` is where the data plane is mounted. By default
    the admin token is LEPTON_TOKEN and decisions are kept where LEPTON_DECISIONS says (a URI), if it does.
    """

    app: ClassVar[ServingApp]
    plan: ClassVar[DeploymentPlan]
    _deployment: ClassVar[BentoDeployment]
    _reader: ClassVar[RowReader]

    def __init_subclass__(
        cls,
        *,
        deployment: Path | str | None = None,
        path: str = "/",
        settings: ServingSettings | None = None,
        **more: Any,
    ) -> None:
        super().__init_subclass__(**more)
        if deployment is None:
            return
        cls._deployment = BentoDeployment(deployment)  # Its links are needed as long as the class is.
        cls.plan = cls._deployment.plan
        cls.app = ServingApp(cls._deployment.path, settings or _settings())
        cls._reader = RowReader(cls.plan.signature, cls.app.settings.limits.rows)
        for name, model in cls._deployment.references.items():
            setattr(cls, name, model)
        depended = [item for item in vars(cls).values() if isinstance(item, Dependency) and item.on is not None]
        DEPENDENCIES.update({item.on.name: item.on for item in depended})
        for name, function, options in _endpoints(cls.plan, cls._reader):
            if name not in cls.__dict__:
                setattr(cls, name, bentoml.api(**options)(function))
        bentoml.asgi_app(_mounted(cls.app), path=path)(cls)

    @property
    def router(self) -> Router:
        """What answers; BentoML starts it with the service."""
        if self.app.served is None:
            raise NotReady
        return self.app.served.router

    def __is_ready__(self) -> bool:
        return self.app.served is not None

    async def ask(
        self, data: Any, context: bentoml.Context | None = None, *, beside: Mapping[str, Any] | None = None
    ) -> Prediction:
        """Answer a DataFrame, a mapping of arrays or an array as the data plane does: its checks, limits, counts, log.

        `context` is the request's: x-lepton-key and x-lepton-version are heeded, the answer's headers say who
        answered. `beside` are further columns. BentoMLException carries the status of a refusal.
        """
        try:
            columns, rows = self._reader.checker.columns_of(data)
            headers = headers_by_name(context.request.headers.raw) if context is not None else {}
        except RequestInvalid as error:
            raise InvalidArgument(str(error)) from None
        kind = ("bentoml", rows.bit_length())
        answer = await self.app.respond(
            kind, partial(_predict, {**columns, **(beside or {})}, rows), Call({}, headers, b"")
        )
        if answer.reply is None:
            raise BentoMLException(msgspec.json.decode(answer.body)["error"], error_code=HTTPStatus(answer.status))
        if context is not None:
            told = {name.decode(): value.decode("latin-1") for name, value in answer.headers}
            context.response.headers.update({name: told[name] for name in told if name.startswith("x-lepton")})
        return Prediction(answer.reply.values, answer.reply.block, self.router.classes)


def _predict(columns: Columns, rows: int, served: Served, call: Call) -> Answer:
    reply = served.predict(call, columns, rows)
    return Answer(b"", reply.headers, 200, reply)


def _mounted(app: ServingApp) -> Starlette:
    """The data plane's own paths and no more: at / it would hide BentoML's page of the API."""
    paths = dict.fromkeys(route.path for route in ROUTES)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        if server_context.worker_index is not None:
            app.settings = app.settings.model_copy(update={"workers": _workers()})
        _count_together(app)
        async with app.router.lifespan_context(app):
            yield

    return Starlette(routes=[Route(path, endpoint=app) for path in paths], lifespan=lifespan)


def _count_together(app: ServingApp) -> None:
    """Count where the server's other workers do: any of them is asked for all. BentoML empties that folder first."""
    shared, worker = os.environ.get("PROMETHEUS_MULTIPROC_DIR"), server_context.worker_index
    if shared is not None and worker is not None:
        folder = Path(shared) / f"lepton-{server_context.service_name}"
        folder.mkdir(parents=True, exist_ok=True)
        app.serving.metrics.share(folder, worker)


def _workers() -> int:
    """How many processes BentoML runs of this service: they share its cores and its versions' calls."""
    said = BentoMLContainer.config.services.get()[server_context.service_name].get("workers")
    return int(system_resources()["cpu"]) or 1 if said == "cpu_count" else said or 1


def _settings() -> ServingSettings:
    # Reached from anywhere: admin routes and forcing a version ask for the token.
    return ServingSettings(
        host="0.0.0.0",
        token=token_from(os.environ),
        decisions=os.environ.get("LEPTON_DECISIONS"),
        limits=limits_from(os.environ),
    )


# --- endpoints, typed by a plan ------------------------------------------------------------------


def _endpoints(plan: DeploymentPlan, reader: RowReader) -> Iterator[tuple[str, Callable[..., Any], Mapping[str, Any]]]:
    """Name, function and options of each endpoint; their annotations are what BentoML makes the API of."""
    rows = Annotated[pd.DataFrame, RowsSchema(signature=plan.signature, reader=reader)]
    depth, element = (2 if plan.output == "proba" else 1), ("string" if plan.output == "label" else "number")
    values = Annotated[np.ndarray, MatrixSchema(format="numpy-array", depth=depth, element=element)]

    async def predict(self: RouterService, rows: Any, ctx: bentoml.Context) -> Any:
        """Answer rows by name, each by the version that the plan chooses for it."""
        return (await self.ask(rows, ctx)).values

    yield "predict", _typed(predict, rows=rows, ctx=bentoml.Context, returns=values), {}

    async def decide(self: RouterService, rows: Any, ctx: bentoml.Context) -> Any:
        """Answer rows by name; beside each answer the version that gave it, why, and the decision's id."""
        return (await self.ask(rows, ctx)).table()

    yield "decide", _typed(decide, rows=rows, ctx=bentoml.Context, returns=pd.DataFrame), {}

    async def predict_batch(self: RouterService, rows: Any) -> Any:
        """Answer rows by name; BentoML answers those of several requests together."""
        return (await self.ask(reader.columns(rows)[0])).values

    # Not a DataFrame: BentoML 1.4 never answers a batch of those.
    told = WithJsonSchema({"type": "array", "items": row_schema(plan.signature)}, mode="serialization")
    listed = Annotated[list[dict[str, Any]], AfterValidator(reader.check), told]
    batched = {"batchable": True, "max_batch_size": BATCH, "max_latency_ms": WAIT}
    yield "predict_batch", _typed(predict_batch, rows=listed, returns=values), batched

    matrix = matrix_of(plan.signature)
    if matrix is None:
        return
    sticky = plan.around.sticky
    key = next((f for f in plan.signature.inputs if sticky and f.name == sticky.key and not f.required), None)
    if key is None:

        async def predict_array(self: RouterService, rows: Any, ctx: bentoml.Context) -> Any:
            """Answer an array, its columns in the signature's order."""
            return (await self.ask(rows, ctx)).values

        yield (
            "predict_array",
            _typed(predict_array, rows=Annotated[np.ndarray, matrix], ctx=bentoml.Context, returns=values),
            {},
        )
        return

    async def predict_array_of(self: RouterService, rows: Any, ctx: bentoml.Context, keys: Any = None) -> Any:
        """Answer an array, its columns in the signature's order; `keys` are the units', one a row."""
        if keys is None:
            return (await self.ask(rows, ctx)).values
        column = np.array(keys) if number else np.fromiter(keys, dtype=object, count=len(keys))
        return (await self.ask(rows, ctx, beside={key.name: column})).values

    predict_array_of.__name__ = "predict_array"
    number = {"i": int, "u": int, "f": float}.get(numpy_dtype(key).kind)
    kind: Any = number or (str | int if key.dtype == "object" else str)
    types: dict[str, Any] = {"rows": Annotated[np.ndarray, matrix], "keys": list[kind] | None}
    yield "predict_array", _typed(predict_array_of, **types, ctx=bentoml.Context, returns=values), {}


def _typed(function: Callable[..., Any], *, returns: Any, **parameters: Any) -> Callable[..., Any]:
    function.__annotations__ = {**parameters, "return": returns}
    return function
