"""The `taskspec` command: registers the commands and turns errors into messages."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from taskspec import __version__
from taskspec.cli.answer import answer
from taskspec.cli.bench import bench
from taskspec.cli.calibrate import calibrate
from taskspec.cli.certify import certify
from taskspec.cli.check_plugin import check_plugin
from taskspec.cli.extend import extend
from taskspec.cli.generate import generate
from taskspec.cli.models import models
from taskspec.cli.new_plugin import new_plugin
from taskspec.cli.plugins import plugins
from taskspec.cli.recipes import copy, recipes
from taskspec.cli.report import report
from taskspec.cli.run import run
from taskspec.cli.validate import validate
from taskspec.cli.watch import watch
from taskspec.errors import TaskSpecError, Terminated

_USERS_MISTAKE = 2
_INTERRUPTED = 130
_TERMINATED = 143
_ADVICE = {
    errno.ENOSPC: "no space left on the disk; free some and run the same command again",
    errno.EACCES: "permission denied; change its permissions, or choose another place",
    errno.EROFS: "the file system is read-only; choose a place you can write to",
}


class _Boundary(TyperGroup):
    """Where errors end: a user's mistake becomes one message and exit code 2.

    It stands inside Typer because Typer itself answers an interrupt with silence.
    """

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        noted: list[int] = []
        try:
            with (
                _noted(signal.SIGINT, KeyboardInterrupt, noted),
                _noted(signal.SIGTERM, Terminated, noted),
            ):
                return super().invoke(ctx)
        except (Exception, KeyboardInterrupt, Terminated) as error:
            if signal.SIGINT in noted or isinstance(error, KeyboardInterrupt):
                _fail("\ninterrupted; run the same command again to continue", _INTERRUPTED)
            if signal.SIGTERM in noted or isinstance(error, Terminated):
                _fail("\nterminated; run the same command again to continue", _TERMINATED)
            if isinstance(error, TaskSpecError):
                _fail(f"error: {error}", _USERS_MISTAKE)
            code = _error_number(error)
            if code not in _ADVICE:
                raise
            name = getattr(error, "filename", None)
            _fail(f"error: {f'{name}: ' if name else ''}{_ADVICE[code]}", _USERS_MISTAKE)


@contextmanager
def _noted(number: signal.Signals, raised: type[BaseException], noted: list[int]) -> Iterator[None]:
    """Let a signal unwind the command as an error does, and note that it came.

    Noted, because native code that is interrupted may turn what is raised into another error.
    """

    def end(number: int, frame: FrameType | None) -> NoReturn:
        noted.append(number)
        raise raised(signal.Signals(number).name)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(number, end)
    try:
        yield
    finally:
        signal.signal(number, before)


def _error_number(error: BaseException | None) -> int | None:
    """The operating system's error number, also where a library hid it in a text or a cause."""
    if error is None:
        return None
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    if os.strerror(errno.ENOSPC) in str(error):
        return errno.ENOSPC
    return _error_number(error.__cause__ or error.__context__)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(message, err=True)
    raise typer.Exit(code)


app = typer.Typer(
    cls=_Boundary,
    name="taskspec",
    help="Make an LLM answer faster without changing what it says.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

COMMANDS = (
    run,
    validate,
    recipes,
    copy,
    plugins,
    check_plugin,
    new_plugin,
    models,
    report,
    generate,
    answer,
    watch,
    extend,
    calibrate,
    certify,
)
for command in COMMANDS:
    app.command()(command)
app.add_typer(bench, name="bench")


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
    """Run the command line."""
    app()
