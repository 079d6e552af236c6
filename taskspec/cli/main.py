"""The `taskspec` command: registers the commands and turns errors into messages."""

from __future__ import annotations

import errno
import sys
from typing import Annotated

import typer

from taskspec import __version__
from taskspec.cli.generate import generate
from taskspec.cli.models import models
from taskspec.cli.plugins import plugins
from taskspec.cli.recipes import copy, recipes
from taskspec.cli.run import run
from taskspec.cli.validate import validate
from taskspec.errors import TaskSpecError

app = typer.Typer(
    name="taskspec",
    help="Make an LLM answer faster without changing what it says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

COMMANDS = (run, validate, recipes, copy, plugins, models, generate)
for command in COMMANDS:
    app.command()(command)

_USERS_MISTAKE = 2
_INTERRUPTED = 130
_ADVICE = {
    errno.ENOSPC: "no space left on the disk; free some and run the same command again",
    errno.EACCES: "permission denied; choose a place you can write to",
    errno.EROFS: "the file system is read-only; choose a place you can write to",
}


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"taskspec {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command as a whole."""


def main() -> None:
    """Run the command line; a user's mistake ends in one message and exit code 2."""
    try:
        app()
    except TaskSpecError as error:
        _fail(str(error), _USERS_MISTAKE)
    except KeyboardInterrupt:
        _fail("interrupted; the same command goes on where this one stopped", _INTERRUPTED)
    except OSError as error:
        if error.errno not in _ADVICE:
            raise
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{_ADVICE[error.errno]}", _USERS_MISTAKE)


def _fail(message: str, code: int) -> None:
    sys.stderr.write(f"error: {message}\n" if code == _USERS_MISTAKE else f"\n{message}\n")
    sys.exit(code)
