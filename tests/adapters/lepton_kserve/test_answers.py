"""The API server of these tests answers as a real one did: data/answers.json is what record.py was told.

Both are asked the same in the same order. What is compared: status, content type and the whole body, but for the
defaults that a server fills into a Deployment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

RECORDED = json.loads((Path(__file__).parent / "data" / "answers.json").read_text(encoding="utf-8"))


@pytest.fixture
def quiet(api_server: Any, beside: Any) -> Iterator[Any]:
    """No controller: only what is asked happens."""
    api_server.control = api_server.finalize = lambda *_: None
    api_server.strict = False  # The recorded server is older than field validation.
    api_server.namespaces.add(beside("record").NAMESPACE)
    return api_server


def test_it_answers_as_a_real_server_did(quiet: Any, beside: Any) -> None:
    record, token = beside("record"), beside("api_server").TOKEN

    def send(method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, bytes]:
        user = headers.pop("user", None)
        told = {**headers, "authorization": f"Bearer {record.STRANGER if user == record.STRANGER else token}"}
        if user == record.NOBODY:
            told["impersonate-user"] = user
        request = Request(quiet.address + path, body or None, told, method=method)
        try:
            with urlopen(request, timeout=10) as answer:
                return answer.status, answer.headers["content-type"], answer.read()
        except HTTPError as error:
            return error.code, error.headers["content-type"], error.read()

    steps = {step["name"]: step for step in RECORDED["steps"]}
    found = dict(record.replay(steps, send))
    differences = {
        name: (compared(found[name]), compared(step["answer"]))
        for name, step in steps.items()
        if compared(found[name]) != compared(step["answer"])
    }
    assert differences == {}


def compared(answer: Any) -> Any:
    """An answer but for a Deployment's defaults."""
    body = answer["body"]
    if isinstance(body, dict) and body.get("kind") == "Deployment":
        return {**answer, "body": {part: body[part] for part in body if part not in ("spec", "status")}}
    return answer
