"""A transformer before the router: KServe's own passes three headers on and none back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kserve import InferRequest, InferResponse, Model
from kserve.model import PredictorProtocol

_OURS = "x-lepton-"
#: KServe's own, `kserve.model.append_forwardable_headers`.
_KSERVES = ("x-request-id", "x-b3-traceid", "authorization")


class RouterTransformer(Model):  # type: ignore[misc]  # KServe's class isn't annotated.
    """The base of a transformer whose predictor is the router, instead of `kserve.Model`.

    `x-lepton-key` and `x-lepton-version` reach the router, `x-lepton-version` and `x-lepton-decision` the client,
    over REST; gRPC carries no headers back. Your `preprocess` is as ever; `postprocess` gets KServe's third
    argument, `response_headers`.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name, return_response_headers=True)
        self.ready = True

    async def predict(
        self,
        payload: dict[str, Any] | InferRequest,
        headers: Mapping[str, str] | None = None,
        response_headers: dict[str, str] | None = None,
    ) -> dict[str, Any] | InferResponse:
        config = self.predictor_config
        if config is None or config.protocol == PredictorProtocol.GRPC_V2.value:
            return await super().predict(payload, headers, response_headers)
        kept = {name: value for name, value in (headers or {}).items() if name.startswith(_OURS) or name in _KSERVES}
        told: dict[str, str] = {}
        answer = await self._http_client.infer(
            config.predictor_base_url,
            model_name=self.name,
            data=payload,
            headers={"Content-Type": "application/json", **kept},
            response_headers=told,
        )
        if response_headers is not None:
            response_headers.update({name: value for name, value in told.items() if name.lower().startswith(_OURS)})
        return answer
