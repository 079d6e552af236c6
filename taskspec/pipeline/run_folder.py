"""Reading a finished run's folder, without its recipe, target or plugins."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from taskspec.errors import ArtifactError
from taskspec.files import PARTIAL
from taskspec.pipeline.artifacts import Done, check_files, read_done

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


def open_run(path: Path, names: list[str], places: dict[str, str]) -> RunFolder:
    """Find the stages of a finished run.

    Args:
        path: The run's folder.
        names: Stages that a run has, in order.
        places: Where those lie that are not among the others.

    Raises:
        ArtifactError: When the folder is no run, or one that is not finished.
    """
    if not (path / "recipe.yaml").is_file() or not (path / _STAGES).is_dir():
        raise ArtifactError(
            f"{path} is not a run's folder; give that of a finished run, such as runs/quickstart"
        )
    folders: dict[str, Path] = {}
    done: dict[str, Done] = {}
    for name in names:
        pattern = places.get(name, f"{_STAGES}/{_NUMBER}{name}")
        found = next(iter(sorted(path.glob(pattern))), None)
        mark = None if found is None else read_done(found)
        parent, _, last = pattern.rpartition("/")
        under_way = any((path / parent).glob(f".{last}{PARTIAL}"))
        if found is None or mark is None or under_way:
            raise ArtifactError(
                f"the run in {path} is not finished: stage {name} is missing; "
                "run its recipe again, which goes on where it was"
            )
        folders[name], done[name] = found, mark
    return RunFolder(path, folders, done)
