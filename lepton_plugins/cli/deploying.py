"""Commands about deployments: pull, generate, serve."""

from __future__ import annotations

import gc
import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Annotated

import typer

from lepton_plugins.cli.opening import deployment, deployment_directory, open_registry
from lepton_plugins.cli.output import Output, OutputOption, show
from lepton_plugins.cli.planning import Model
from lepton_plugins.cli.registering import pairs
from lepton_plugins.cli.target_flags import TargetCommand
from lepton_plugins.cli.terminal import terminal

_PANEL = "Deployment"

Source = Annotated[
    str, typer.Argument(metavar="NAME|DIR", help="A model with a plan in force, or a deployment directory.")
]


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=_PANEL)(pull)
    app.command(rich_help_panel=_PANEL, cls=TargetCommand)(generate)
    app.command(rich_help_panel=_PANEL)(serve)


def pull(
    name: Model,
    to: Annotated[Path, typer.Option(metavar="DIR", help="The deployment directory to make or bring up to date.")],
    revision: Annotated[
        str | None, typer.Option(metavar="REV", help="Number or digest (default: the plan in force).")
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Make the plan in force a deployment directory; every digest is checked.

    What is there already isn't fetched again.

    Example: lepton pull flights --to deployment
    """
    path = open_registry().pull(name, to, revision=revision)
    show({"model": name, "directory": str(path)}, lambda: str(path), output)


def generate(
    source: Source,
    target: Annotated[str, typer.Option(metavar="T", help="What it is rendered for, such as bentoml or kserve.")],
    to: Annotated[Path, typer.Option(metavar="DIR", help="A new directory, or one that was rendered before.")],
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="K=V", help="An option of the target; each is a flag too: see --target T --help."),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Render a plan for a target: the same input gives the same files.

    What was rendered into DIR before is replaced, unless somebody changed it.

    `lepton plugins` lists the targets that are installed, `lepton generate --target T --help` one's options.

    Example: lepton generate flights --target kserve --to manifests --namespace models
    """
    from lepton_plugins import generate as rendering

    rendering.open_target(target)  # Before a plan is pulled for nothing.
    with deployment(source) as directory:
        made = rendering.generate(directory, target, to, pairs(option or [], "--option"), registry=terminal.registry)
    files = [path.as_posix() for path in made.files]
    result = {"target": target, "directory": str(to), "files": files, **made.told}
    show(result, lambda: "\n".join(_without_packages(files)), output)
    for name, text in made.told.items():
        terminal.note(f"{name}: {text}")


def serve(
    source: Source,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 8000,
    host: Annotated[str, typer.Option(help="Address, or path of a Unix socket; 0.0.0.0 for all.")] = "127.0.0.1",
    decisions: Annotated[
        str,
        typer.Option(metavar="URI|none", help="Where decisions go: jsonl:DIR, parquet:DIR or http://… (CloudEvents)."),
    ] = "lepton-decisions",
    no_context: Annotated[
        bool, typer.Option("--no-context", help="Log decisions without the columns they were made by.")
    ] = False,
    learning: Annotated[
        str,
        typer.Option(
            metavar="URI|none",
            envvar="LEPTON_LEARNING",
            help="Where a policy keeps what it learns: a directory, or redis://…",
        ),
    ] = "lepton-learning",
    state: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With NAME: keep what was pulled here (default: a temporary one)."),
    ] = None,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the token for admin routes (default: LEPTON_TOKEN).")
    ] = None,
    allowed_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A further name by which admin routes may be reached.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that answer, each with its own models.")] = 1,
    model_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE", help="Versions' files that stay loaded, such as 2Gi (default: the plan's, else all)."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads of one version for one call (default: its cores by the plan).")
    ] = None,
    busy_poll: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.01,
            metavar="SECONDS",
            help="Look so long for a next request before sleeping (default: 0.0002 with cores to spare, or 0).",
        ),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="What a request may cost: body=64Mi, body_time=5s, rows, tensors, header, part_time, in_flight, "
            "queued (default: LEPTON_LIMITS).",
        ),
    ] = None,
    grpc_port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Serve V2 over gRPC on this port too.")
    ] = None,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE", help="Certificate for TLS in PEM format.")] = None,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key (default: in the certificate's file).")
    ] = None,
) -> None:
    """Serve a plan over HTTP: V2 infer, V1 predict, /invocations, feedback, /metrics.

    With NAME it follows the registry: a promotion, a rollback or a pin takes effect within seconds.

    Example: lepton serve flights --port 8080 --decisions parquet:/var/lib/lepton/flights
    """
    with ExitStack() as stack:
        gc.disable()  # Until it serves: nothing of what is loaded goes away again.
        stack.callback(gc.enable)
        from pydantic import ValidationError

        from lepton_plugins.errors import InvalidInput
        from lepton_plugins.plugins import validation_lines
        from lepton_plugins.serving.limiting import limits_from
        from lepton_plugins.serving.run import serve as run
        from lepton_plugins.serving.settings import ServingSettings, token_from
        from lepton_plugins.serving.tls import check_pair

        try:
            settings = ServingSettings(
                host=host,
                token=token_from(os.environ, token_file),
                allowed_hosts=tuple(allowed_host or ()),
                decisions=None if decisions == "none" else decisions,
                log_context=not no_context,
                learning=None if learning == "none" else learning,
                workers=workers,
                model_memory=model_memory,
                threads=threads,
                busy_poll=busy_poll,
                grpc_port=grpc_port,
                certificate=certificate,
                key=key,
                limits=limits_from(os.environ, pairs(limit or [], "--limit")),
            )
        except ValidationError as error:
            raise InvalidInput(f"{validation_lines(error)}.") from None
        if certificate is not None:
            check_pair(certificate, key)
        if settings.token is None and not settings.loopback:
            terminal.note(
                "No token is set (LEPTON_TOKEN, --token-file): feedback, explain, the plan and versions named by "
                "clients are refused."
            )
        directory = deployment_directory(source)
        if directory is not None:
            if state is not None:
                raise InvalidInput(
                    f"--state: {source} is a deployment directory, which is served as it is; leave it out."
                )
            if "/" not in source:
                terminal.note(f"{source} is a deployment directory here: no registry is followed.")
            run(directory, host, port, settings=settings)
            return
        from lepton_plugins.serving.follower import Follow

        if state is None:
            state = Path(mkdtemp(prefix="lepton-serve-"))
            stack.callback(_remove, state)
        terminal.note(f"Following {source} in the registry …")
        run(state, host, port, settings=settings, follow=Follow(source, terminal.registry))


def _without_packages(files: Sequence[str]) -> list[str]:
    """The files; a folder of packages, which is not for reading, as one line."""
    folders = [PurePosixPath(file).parents[1] for file in files if PurePosixPath(file).match("*.dist-info/METADATA")]
    found: dict[str, int] = {}
    for file in files:
        folder = next((folder for folder in folders if folder in PurePosixPath(file).parents), None)
        name = file if folder is None else f"{folder}/"
        found[name] = found.get(name, 0) + 1
    return [f"{name} ({count} files)" if name.endswith("/") else name for name, count in found.items()]


def _remove(folder: Path) -> None:
    from shutil import rmtree

    rmtree(folder, ignore_errors=True)
