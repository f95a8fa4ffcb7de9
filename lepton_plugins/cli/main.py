"""The command `lepton`. Only typer, rich and the standard library are imported before a command runs."""

from __future__ import annotations

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence
from errno import EACCES, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS
from typing import Annotated, Any

import typer
from typer.main import get_command

from lepton_plugins import __version__
from lepton_plugins.cli import deploying, evaluating, planning, registering, replaying, routing, setting_up
from lepton_plugins.cli.terminal import terminal
from lepton_plugins.errors import LeptonError, PackageMissing

#: What a path may be wrong by, or a disk.
_OF_THE_PLACE = (EACCES, EDQUOT, EISDIR, ENOENT, ENOSPC, ENOTDIR, EPERM, EROFS)

#: The root of what typer raises for wrong usage; it exports no name for it.
_USAGE_ERROR: type[Any] = typer.BadParameter.__mro__[1]

app = typer.Typer(
    name="lepton",
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (setting_up, registering, evaluating, planning, deploying, routing, replaying):
    group.add_to(app)


def _use_registry(value: str | None) -> None:
    terminal.registry = value or terminal.registry


def _be_quiet(value: bool) -> None:
    terminal.quiet = value or terminal.quiet


def _debug(value: bool) -> None:
    terminal.debug = value or terminal.debug


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"lepton {__version__}\n")
        raise typer.Exit()


@app.callback(invoke_without_command=True)
def lepton(
    context: typer.Context,
    registry: Annotated[
        str | None,
        typer.Option(
            metavar="URI",
            callback=_use_registry,
            help="The registry, such as sqlite:///mlflow.db or http://host:5000 (default: MLflow's own setting).",
            rich_help_panel="Common options",
        ),
    ] = None,
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet", "-q", callback=_be_quiet, help="No notes, no progress.", rich_help_panel="Common options"
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", callback=_debug, help="Stack traces and logs.", rich_help_panel="Common options"),
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    """Several versions of a model in parallel, and for each request the one that serves it best.

    register → evaluate → plan → promote → serve, in the MLflow registry that you have.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        raise typer.Exit()


def command() -> Any:
    """The command line as an object to call; --registry, -q and --debug stand before and after a command's name."""
    root: Any = get_command(app)
    common = [parameter for parameter in root.params if parameter.name in ("registry", "quiet", "debug")]
    for parameter in common:
        parameter.expose_value = False
    for sub in root.commands.values():
        sub.params.extend(common)
    return root


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line; returns its exit code.

    0; 1: a check or gate said no, or `diff` found changes; 2: wrong usage or input, told in one line on
    stderr; 130: interrupted.
    """
    terminal.reset()
    # Else pydantic looks for plugins of its own in every installed distribution, at each start.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    given = list(sys.argv[1:] if arguments is None else arguments)
    _set_up_logs("--debug" in given)
    try:
        code = command()(args=given, prog_name="lepton", standalone_mode=False)
        sys.stdout.flush()
        return int(code or 0)
    except (KeyboardInterrupt, typer.Abort):
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough; the interpreter's own flush at exit must not complain either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0
    except _USAGE_ERROR as error:
        terminal.fail(_usage(error))
        return 2
    except LeptonError as error:
        return _failed(error, str(error), error.exit_code)
    except ModuleNotFoundError as error:
        from lepton_plugins.doctor import extra_with

        module = (error.name or "").partition(".")[0]
        extra = extra_with(module)
        if extra is None:
            return _fault(error)
        return _failed(error, str(PackageMissing(module, "This", f"pip install 'lepton-plugins[{extra}]'")), 2)
    except OSError as error:
        if error.filename is None or error.errno not in _OF_THE_PLACE:
            return _fault(error)
        why = (
            f"{error.filename}: {error.strerror}. Name a place that exists, has room, and that you may read and write."
        )
        return _failed(error, why, 2)
    except Exception as error:
        return _fault(error)


def _fault(error: Exception) -> int:
    text = f"{type(error).__name__}: {error}"
    hint = "" if terminal.debug else " This is a fault in Lepton or in a plugin; --debug shows where."
    return _failed(error, text + hint, 2)


def _failed(error: Exception, text: str, code: int) -> int:
    if terminal.debug:
        traceback.print_exception(error)
    terminal.fail(text)
    return code


def _usage(error: Any) -> str:
    told = error.format_message()
    if error.__cause__ is not None:
        from pydantic import ValidationError

        from lepton_plugins.planning.findings import findings

        if isinstance(error.__cause__, ValidationError):
            told = told.replace(error.message, "; ".join(text for _, text in findings(error.__cause__)))
    text = " ".join(told.split())
    text += "" if text.endswith((".", "?")) else "."
    where = error.ctx.command_path if getattr(error, "ctx", None) is not None else "lepton"
    return f"{text} See: {where} --help"


def _set_up_logs(debug: bool) -> None:
    """The libraries' logs and deprecation warnings are for whoever asks with --debug."""
    for name in ("lepton_plugins", "lepton_mlflow"):
        logging.getLogger(name).setLevel(logging.DEBUG if debug else logging.NOTSET)
    if debug:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        return
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s", stream=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
