"""Errors a user can act on: each names the place and the mend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_SHOWN = 10


def listed(problems: Sequence[str]) -> str:
    """Several problems as one message: a line each, up to ten, and how many more there are."""
    rest = len(problems) - _SHOWN
    return "\n".join([*problems[:_SHOWN], *([f"... and {rest} more"] if rest > 0 else [])])


class TaskSpecError(Exception):
    """A user's mistake or a broken environment; the message says what to do.

    The command line prints it without a traceback and exits with code 2.
    """


class PluginError(TaskSpecError):
    """A plugin is missing, misdeclared, duplicated or failed to load."""


class CorpusError(TaskSpecError):
    """Prompts are missing, empty, malformed or too few."""


class ModelError(TaskSpecError):
    """A model cannot be found, loaded, or used for speculative decoding."""


class DecodingError(TaskSpecError):
    """A request cannot be decoded as asked."""


class ArtifactError(TaskSpecError):
    """A file of a run folder or bundle is missing, altered or unwritable."""


class ParityError(TaskSpecError):
    """A trained draft does not do in the engine what it did in training."""


class Terminated(BaseException):
    """The process was told to end; what was finished is kept.

    No error, like KeyboardInterrupt: what goes on after a plugin's errors does not go on after it.
    """


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a recipe.

    Attributes:
        where: File and line (`my.yaml:7`) or `override` for a command-line override.
        path: Dotted path of the recipe key, such as `partition.use`.
        message: What is wrong and what to do.
    """

    where: str
    path: str
    message: str

    def __str__(self) -> str:
        place = f"{self.where} {self.path}" if self.path else self.where
        return f"{place}: {self.message}"


class RecipeError(TaskSpecError):
    """Everything that is wrong with a recipe, reported at once."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))
