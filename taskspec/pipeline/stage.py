"""The contract of a stage."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar

from taskspec.pipeline.artifacts import digest
from taskspec.pipeline.context import RunContext


class Stage(ABC):
    """One step of a run. It reads the folders of earlier stages and writes its own.

    Attributes:
        name: Name shown and used in folder names.
        needs: Stages whose folders it reads with every recipe.
        together: Whether all processes that `torchrun` or SLURM started work on it; the others
            wait for what the first one makes of the rest.
        salvages: Whether it takes what it can use from an interrupted attempt under another recipe.
        place: Where its folder goes within the run's, instead of `stages/<nn>-<name>`.
    """

    name: ClassVar[str]
    place: ClassVar[str | None] = None
    needs: ClassVar[tuple[str, ...]] = ()
    together: ClassVar[bool] = False
    salvages: ClassVar[bool] = False

    @abstractmethod
    def settings(self, context: RunContext) -> Any:
        """JSON-serialisable: all that the result depends on besides earlier stages."""

    @abstractmethod
    def run(self, context: RunContext, folder: Path) -> str:
        """Do the work.

        Args:
            context: The run.
            folder: Where to write; holds what an interrupted attempt left.

        Returns:
            One line for the user: what came out.
        """

    def reads(self, context: RunContext) -> tuple[str, ...]:
        """Stages whose folders it reads with this recipe, on which its result depends."""
        return self.needs

    def fingerprint(self, context: RunContext, upstream: dict[str, str]) -> str:
        """What the result depends on: settings, and what the stages it needs really made.

        Args:
            context: The run.
            upstream: Identity of every earlier stage's result.
        """
        return digest(
            {
                "stage": self.name,
                "settings": self.settings(context),
                "upstream": {name: upstream[name] for name in self.reads(context)},
            }
        )
