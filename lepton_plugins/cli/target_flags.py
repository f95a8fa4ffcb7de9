"""`lepton generate`: each option of the target that `--target` names is a flag of its own."""

from __future__ import annotations

import inspect
import types
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import typer
from typer.core import TyperCommand
from typer.main import get_command

from lepton_plugins.errors import LeptonError

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

_PANEL = "Options of the target"
#: What a flag's parameter is called, so that none is taken for one of the command's own.
_PREFIX = "target_option_"


class TargetCommand(TyperCommand):
    """A command with `--target` and `--option k=v`; `--some-name X` stands for `--option some_name=X`.

    A field of the target's Options makes the flag, its description the help; its alias, where it has one, the
    name. A flag that the command has already stays the command's own.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        target = _named(args)
        if target is not None:
            from lepton_plugins.generate import open_target

            try:
                taken = {name for parameter in self.params for name in parameter.opts}
                self.params.extend(item for item in flags(open_target(target).Options) if taken.isdisjoint(item.opts))
            except LeptonError:
                if not ctx.resilient_parsing:  # Half a command line, to be completed.
                    raise
        return list(super().parse_args(ctx, args))

    def invoke(self, ctx: Any) -> Any:
        given = {name: ctx.params.pop(name) for name in list(ctx.params) if name.startswith(_PREFIX)}
        said = [
            f"{name.removeprefix(_PREFIX)}={str(value).lower() if isinstance(value, bool) else value}"
            for name, value in given.items()
            if value is not None
        ]
        ctx.params["option"] = [*(ctx.params.get("option") or ()), *said]
        return super().invoke(ctx)


def flags(options: type[BaseModel]) -> list[Any]:
    """The parameters of a command line that a target's Options make, by typer's own rules."""
    parameters = []
    for field_name, field in options.model_fields.items():
        name = field.alias or field_name
        flag = f"--{name.replace('_', '-')}"
        told = typer.Option(flag, metavar=_metavar(field), help=_summary(field), rich_help_panel=_PANEL)
        kind: Any = bool | None if bool in _kinds(field) else str | None
        if kind == bool | None:
            told = typer.Option(f"{flag}/--no-{flag[2:]}", help=_summary(field), rich_help_panel=_PANEL)
        parameters.append(
            inspect.Parameter(
                _PREFIX + name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, told]
            )
        )

    def command(**_: Any) -> None: ...

    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(add_completion=False)
    app.command()(command)
    return [parameter for parameter in get_command(app).params if (parameter.name or "").startswith(_PREFIX)]


def _named(args: Sequence[str]) -> str | None:
    """The value of --target in a command line that isn't parsed yet."""
    for index, word in enumerate(args):
        if word == "--":
            break
        if word.startswith("--target="):
            return word.partition("=")[2]
        if word == "--target" and index + 1 < len(args):
            return args[index + 1]
    return None


def _kinds(field: FieldInfo) -> tuple[Any, ...]:
    """The types that a field takes, without None."""
    kind = field.annotation
    united = get_origin(kind) in (Union, types.UnionType)
    return tuple(item for item in (get_args(kind) if united else (kind,)) if item is not type(None))


def _metavar(field: FieldInfo) -> str | None:
    kinds = _kinds(field)
    for kind in kinds:
        if get_origin(kind) is Literal and len(kinds) == 1:
            return "|".join(map(str, get_args(kind)))
    return {Path: "PATH", int: "N", float: "X"}.get(kinds[0], "TEXT")


def _summary(field: FieldInfo) -> str | None:
    return " ".join(field.description.split()) if field.description else None
