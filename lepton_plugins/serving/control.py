"""Lepton's own routes: the plan in force, why a row goes where, what became of a decision."""

from __future__ import annotations

from time import sleep
from typing import Any

import msgspec

from lepton_plugins.errors import RequestInvalid
from lepton_plugins.records.decision import Feedback
from lepton_plugins.serving.call import NOSNIFF, Answer, Call, json_answer
from lepton_plugins.serving.payload import decode
from lepton_plugins.serving.served import Served


class FeedbackItem(msgspec.Struct, forbid_unknown_fields=True):
    decision: str
    reward: float | None = None
    label: str | float | int | bool | None = None
    time: float | None = None


class ExplainRequest(msgspec.Struct, forbid_unknown_fields=True):
    context: dict[str, Any]
    key: str | int | float | None = None


_FEEDBACK = msgspec.json.Decoder(FeedbackItem | list[FeedbackItem])
_EXPLAIN = msgspec.json.Decoder(ExplainRequest)

#: A decision that another worker has just made may not be written yet: seconds until it is looked for again.
_OTHERS_WRITE = (0.1, 0.4)


def feedback(served: Served, call: Call) -> Answer:
    """One item or a list; the receipt counts what was stored and names the decisions that nobody knows."""
    given = decode(_FEEDBACK, call.body)
    items = given if isinstance(given, list) else [given]
    if len(items) > served.limits.rows:
        raise RequestInvalid(f"Found {len(items)} items", expected=f"at most {served.limits.rows}")
    for index, item in enumerate(items):
        if item.reward is None and item.label is None:
            raise RequestInvalid(f"Item {index} says nothing", field="reward", expected="a reward or a label")
    given_back = [
        Feedback(decision=item.decision, reward=item.reward, label=item.label, time=item.time) for item in items
    ]
    receipt = served.router.feedback(given_back)
    for pause in _OTHERS_WRITE if served.state.metrics.shared else ():
        if not receipt.unknown:
            break
        sleep(pause)
        unknown = set(receipt.unknown)
        later = served.router.feedback([item for item in given_back if item.decision in unknown])
        receipt = receipt.then(later)
    served.state.metrics.count_feedback(served.model, receipt)
    told = {"stored": receipt.stored, "duplicates": receipt.duplicates, "unknown": list(receipt.unknown)}
    if receipt.learned is not None:
        told |= {"learned": receipt.learned, "waiting": receipt.waiting}
    return json_answer(told)


def explain(served: Served, call: Call) -> Answer:
    """Why a row goes where it goes."""
    request = decode(_EXPLAIN, call.body)
    if request.key is not None and served.sticky in request.context:
        served.check_key(request.key, "`key`", [request.context[served.sticky]])
    explanation = served.router.explain(request.context, key=request.key)
    return json_answer(explanation.model_dump(mode="json"))


def plan(served: Served, call: Call) -> Answer:
    """The plan that answers now, and how the last look for a newer one went."""
    content = {
        "model": served.model,
        "digest": served.plan.digest,
        "plan": served.plan.model_dump(mode="json", exclude={"salt": True, "arms": {"__all__": {"source"}}}),
        "reload": served.state.reload.content(),
    }
    return json_answer(content)


def metrics(served: Served, call: Call) -> Answer:
    """Metrics in Prometheus' format."""
    from prometheus_client import REGISTRY, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    return Answer(generate_latest(REGISTRY), [(b"content-type", CONTENT_TYPE_LATEST.encode()), NOSNIFF])
