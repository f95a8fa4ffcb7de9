"""MLflow's scoring protocol. Source: https://mlflow.org/docs/latest "Inference Server Specification"."""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from lepton_plugins import __version__
from lepton_plugins.errors import MediaTypeUnsupported, RequestInvalid
from lepton_plugins.routing.inputs import Columns
from lepton_plugins.serving.call import TEXT_HEADERS, Answer, Asked, Call
from lepton_plugins.serving.payload import decode
from lepton_plugins.serving.reader import InputReader
from lepton_plugins.serving.reply import Reply
from lepton_plugins.serving.served import Served
from lepton_plugins.serving.tables import read_inputs, read_instances

_FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_OBJECT = msgspec.json.Decoder(dict[str, Any])


def ping(served: Served, call: Call) -> Answer:
    """Whether the server answers."""
    return Answer(b"\n", TEXT_HEADERS)


def version(served: Served, call: Call) -> Answer:
    """The version of Lepton."""
    return Answer(__version__.encode(), TEXT_HEADERS)


def invoke(served: Served, call: Call) -> Asked:
    """Answer a table in any of MLflow's forms, each row by the version that the plan chooses for it."""
    media, _, parameters = call.headers.get(b"content-type", b"application/json").partition(b";")
    charset = parameters.strip().lower().replace(b'"', b"")
    if charset not in (b"", b"charset=utf-8"):
        raise MediaTypeUnsupported(parameters.decode("latin-1").strip()[:100], "UTF-8")
    if media.strip().lower() == b"text/csv":
        columns, rows = _read_csv(served.reader, call.body)
    else:
        columns, rows = _read_json(served.reader, decode(_OBJECT, call.body))
    return Asked(call, columns, rows, Reply.predictions)


def _read_json(reader: InputReader, body: dict[str, Any]) -> tuple[Columns, int]:
    given = [form for form in _FORMS if form in body]
    if len(given) != 1:
        raise RequestInvalid(
            f"Found {' and '.join(given) or 'none of them'} in the body", expected="exactly one of " + ", ".join(_FORMS)
        )
    columns, rows = _read_form(reader, given[0], body)
    return reader.with_parameters(body.get("params"), columns, rows), rows


def _read_form(reader: InputReader, form: str, body: dict[str, Any]) -> tuple[Columns, int]:
    content = body[form]
    if form == "instances":
        return read_instances(reader, content)
    if form == "inputs":
        return read_inputs(reader, content)
    if form == "dataframe_records":
        if not isinstance(content, list):
            raise RequestInvalid("`dataframe_records` isn't a list", field=form, expected="a list of objects")
        return reader.records(content)
    return _read_split(reader, content)


def _read_split(reader: InputReader, content: Any) -> tuple[Columns, int]:
    if not isinstance(content, dict) or not isinstance(content.get("data"), list):
        raise RequestInvalid(
            "`dataframe_split` has no `data`", field="dataframe_split", expected='{"columns": [...], "data": [[...]]}'
        )
    names = content.get("columns")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise RequestInvalid("`columns` isn't a list of names", field="dataframe_split", expected="a list of strings")
    return reader.rows(content["data"], names)


def _read_csv(reader: InputReader, body: bytes) -> tuple[Columns, int]:
    """A header line and one line a row; an empty cell is a missing value."""
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise RequestInvalid(f"The body isn't CSV in UTF-8: {error}") from None
    lines = [line for line in lines if line]
    if not lines:
        raise RequestInvalid("The body is empty", expected="a header line and rows")
    names, *rows = lines
    return reader.text_rows(rows, names)
