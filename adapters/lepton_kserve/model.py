"""The router inside KServe's own ModelServer: `ModelServer().start([RouterModel("/mnt")])`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import HTTPException
from kserve import InferOutput, InferRequest, InferResponse, Model
from kserve.errors import InferenceError, InvalidInput
from kserve.protocol.infer_type import to_http_parameters

from lepton_plugins.errors import LeptonError, RequestInvalid
from lepton_plugins.plugins import plugins
from lepton_plugins.routing.router import Router
from lepton_plugins.serving.access import Access, Permission
from lepton_plugins.serving.call import Call
from lepton_plugins.serving.datatypes import datatype_of
from lepton_plugins.serving.limiting import limits_from
from lepton_plugins.serving.pointer import Hold
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.settings import ServingSettings, token_from
from lepton_plugins.serving.state import ServerState
from lepton_plugins.serving.tables import read_inputs, read_instances
from lepton_plugins.serving.v2 import output_values, wanted_outputs

#: What a response says of who answered, as headers and (V2, gRPC too) as parameters of the response.
_TOLD = ("x-lepton-version", "x-lepton-decision", "x-lepton-policy")


#: What KServe has no error for: who may not, and what may be asked again later.
_AS_THEY_ARE = (401, 403, 503, 504)


class RouterModel(Model):  # type: ignore[misc]  # KServe's class isn't annotated.
    """A `kserve.Model` that answers with the versions of a deployment directory, over V1, V2 and gRPC.

    Request headers `x-lepton-key` and `x-lepton-version` are as the data plane's: naming a version needs the
    plan's guard to be open and the token LEPTON_TOKEN. Rows run in a thread, the event loop stays free. What
    is wrong with a request is KServe's InvalidInput (400), a failure InferenceError (500); 503 and 504 where no version
    can be reached or answers in time.
    """

    def __init__(self, directory: Path | str, name: str | None = None, *, decisions: str | None = None) -> None:
        """Load the deployment directory; `name` is by default the plan's model, `decisions` the log's URI."""
        self._settings = ServingSettings(
            host="0.0.0.0", token=token_from(os.environ), decisions=decisions, limits=limits_from(os.environ)
        )
        self._access = Access(self._settings)
        self._directory = Path(directory)
        self._served: Served | None = None
        super().__init__(name or "lepton", return_response_headers=True)
        self.load()
        self.name = name or self.served.model

    @property
    def served(self) -> Served:
        assert self._served is not None
        return self._served

    def load(self) -> bool:
        """Load it, unless it is loaded."""
        if self._served is None:
            state = ServerState(self._settings)
            if self._settings.decisions is not None:
                state.log = plugins().by_scheme("store", self._settings.decisions).load()(self._settings.decisions)
            self._served = Served(Router.load(self._directory, log=state.log), state, Hold(self._directory))
        self.ready = True
        return self.ready

    def stop(self) -> None:
        """Close the router and its log; KServe calls it when the server ends."""
        served, self._served, self.ready = self._served, None, False
        if served is not None:
            served.close()
            if served.state.log is not None:
                served.state.log.flush()
                served.state.log.close()

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        """Answer a V1 body or a V2 request, each row by the version that the plan chooses for it."""
        given = {name.lower().encode(): value.encode() for name, value in (headers or {}).items()}
        try:
            version = payload.model_version if isinstance(payload, InferRequest) else None
            if version or b"x-lepton-version" in given:
                self._access.check(Permission.FORCE, given, self.served.plan.around.guard)
            answer = self._infer if isinstance(payload, InferRequest) else self._predict
            call = Call({"version": version} if version else {}, given, b"")
            reply, content = await asyncio.to_thread(answer, payload, call)
        except LeptonError as error:
            raise _as_kserve(error) from None
        if response_headers is not None:
            response_headers.update(_told(reply))
        return content

    def _predict(self, payload: dict[str, Any], call: Call) -> tuple[Reply, dict[str, Any]]:
        if ("instances" in payload) == ("inputs" in payload):
            raise RequestInvalid("The body has both or neither of them", expected="`instances` or `inputs`")
        read = read_instances if "instances" in payload else read_inputs
        reader = self.served.reader
        columns, rows = read(reader, payload.get("instances", payload.get("inputs")))
        columns = reader.with_own_parameters(payload.get("parameters"), columns, rows)
        reply = self.served.predict(call, columns, rows)
        return reply, {"predictions": reply.values.tolist()}

    def _infer(self, payload: InferRequest, call: Call) -> tuple[Reply, InferResponse]:
        served = self.served
        asked = [output.name for output in payload.request_outputs or ()]
        wanted = wanted_outputs(served, asked)
        columns, rows = served.reader.tensors({item.name: item.as_numpy() for item in payload.inputs})
        if payload.parameters:
            columns = served.reader.with_own_parameters(to_http_parameters(payload.parameters), columns, rows)
        reply = served.predict(call, columns, rows)
        binary = bool(payload.from_grpc or payload.use_binary_outputs)
        return reply, InferResponse(
            response_id=payload.id or reply.decision,
            model_name=self.name,
            model_version=reply.version,
            infer_outputs=[_output(served, reply, name, binary) for name in wanted],
            from_grpc=payload.from_grpc,
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
            parameters={name.removeprefix("x-").replace("-", "_"): value for name, value in _told(reply).items()},
        )


def _output(served: Served, reply: Reply, name: str, binary: bool) -> InferOutput:
    values = output_values(served, reply, name)
    datatype = datatype_of(values.dtype)
    if datatype == "BYTES":
        values = np.array([str(value).encode() for value in values.ravel()], dtype=object).reshape(values.shape)
    # Rows' versions in order, as the data plane says them.
    parameters = None if reply.versions is None else {"lepton_versions": ",".join(reply.versions)}
    output = InferOutput(name=name, shape=list(values.shape), datatype=datatype, parameters=parameters)
    output.set_data_from_numpy(values, binary_data=binary)
    return output


def _told(reply: Reply) -> dict[str, str]:
    headers = {name.decode(): value.decode("latin-1") for name, value in reply.headers}
    return {name: headers[name] for name in _TOLD if name in headers}


def _as_kserve(error: LeptonError) -> Exception:
    if error.http_status in _AS_THEY_ARE:
        later = {"retry-after": str(error.retry_after or 1)} if error.http_status == 503 else None
        return HTTPException(error.http_status, str(error), later)
    found: Exception = InvalidInput(str(error)) if error.http_status < 500 else InferenceError(str(error))
    return found
