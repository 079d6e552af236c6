"""A finished run's folder: its mark, and reading it without its recipe, target or plugins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from taskspec.errors import ArtifactError
from taskspec.pipeline.artifacts import (
    Done,
    check_files,
    file_digest,
    read_done,
    read_json,
    write_json,
)

RECIPE = "recipe.yaml"
_MARK = "run.json"
_STAGES = "stages"
_NUMBER = "[0-9][0-9]-"


@dataclass(frozen=True)
class RunFolder:
    """A run whose stages are all finished.

    Attributes:
        path: The run's folder.
        stages: Each stage's folder, by name, in order.
        done: Each stage's mark.
    """

    path: Path
    stages: dict[str, Path]
    done: dict[str, Done]

    def file(self, stage: str, name: str) -> Path:
        """A file that a stage wrote.

        Raises:
            ArtifactError: When it is gone or altered, or the stage never wrote it.
        """
        if name not in self.done[stage].files:
            raise ArtifactError(
                f"{self.stages[stage]} holds no {name}; remove that folder and run the recipe again"
            )
        check_files(self.stages[stage], self.done[stage], [name])
        return self.stages[stage] / name

    def text(self, stage: str, name: str) -> str | None:
        """The text of a file that a stage wrote; None when it wrote none of that name.

        Raises:
            ArtifactError: When it is gone or altered.
        """
        if name not in self.done[stage].files:
            return None
        return self.file(stage, name).read_text(encoding="utf-8")


def mark_finished(folder: Path, results: Mapping[str, str]) -> None:
    """Say that stages are what the recipe in a run's folder made.

    Args:
        folder: The run's.
        results: Identity of what each stage made, by name.
    """
    write_json(folder / _MARK, {"recipe": file_digest(folder / RECIPE), "stages": dict(results)})


def finished_stages(folder: Path, places: Mapping[str, Path | None]) -> dict[str, Done]:
    """The marks of stages that the recipe in a run's folder has made, and no other one.

    Args:
        folder: The run's.
        places: Each stage's folder, by name; None where there is none.

    Raises:
        ArtifactError: When one is missing, or another recipe's.
    """
    done: dict[str, Done] = {}
    for name, place in places.items():
        mark = None if place is None else read_done(place)
        if mark is None:
            raise _not_finished(folder, f"stage {name} is missing")
        done[name] = mark
    path = folder / _MARK
    value = read_json(path) if path.is_file() else {"recipe": None, "stages": {}}
    made = value["stages"] if value["recipe"] == file_digest(folder / RECIPE) else {}
    for name, mark in done.items():
        if made.get(name) != mark.result:
            raise _not_finished(folder, f"stage {name} is of no whole run of its recipe")
    return done


def open_run(path: Path, names: list[str], places: dict[str, str]) -> RunFolder:
    """Find the stages of a finished run.

    Args:
        path: The run's folder.
        names: Stages that a run has, in order.
        places: Where those lie that are not among the others.

    Raises:
        ArtifactError: When the folder is no run, or one that is not finished.
    """
    if not (path / RECIPE).is_file() or not (path / _STAGES).is_dir():
        raise ArtifactError(
            f"{path} is not a run's folder; give that of a finished run, such as runs/quickstart"
        )
    patterns = {name: places.get(name, f"{_STAGES}/{_NUMBER}{name}") for name in names}
    found = {name: next(iter(sorted(path.glob(each))), None) for name, each in patterns.items()}
    done = finished_stages(path, found)
    return RunFolder(path, {name: each for name, each in found.items() if each is not None}, done)


def _not_finished(folder: Path, why: str) -> ArtifactError:
    return ArtifactError(
        f"the run in {folder} is not finished: {why}; "
        "run its recipe again, which goes on where it was"
    )
