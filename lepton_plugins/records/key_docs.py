"""The docstrings of a record's keys as descriptions in its JSON Schema.

pydantic's `use_attribute_docstrings` does the same when a class is made, and so reads and parses the
sources whenever a server starts; here it happens when a schema is asked for.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import Any


def describe_keys(schema: dict[str, Any], record: type[Any]) -> None:
    """Add the docstrings of `record`'s attributes to its schema: a `json_schema_extra`."""
    properties = schema.get("properties", {})
    declaring = [kind for kind in reversed(record.__mro__) if vars(kind).get("__annotations__", {}).keys() & properties]
    for kind in declaring:
        for name, text in _docstrings(kind).items():
            field = record.model_fields.get(name)
            key = name if field is None else field.alias or name
            if key in properties:
                properties[key]["description"] = text


def _docstrings(kind: type[Any]) -> dict[str, str]:
    """By attribute; none where there is no source."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):
        return {}
    (made,) = ast.parse(source).body
    if not isinstance(made, ast.ClassDef):
        return {}
    found = {}
    for before, after in zip(made.body, made.body[1:], strict=False):
        if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name) and isinstance(after, ast.Expr):
            value = after.value
            if isinstance(value, ast.Constant) and isinstance(value.value, str):
                found[before.target.id] = inspect.cleandoc(value.value)
    return found
