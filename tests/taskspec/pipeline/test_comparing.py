"""Where a comparison is kept: in a folder of its own, never in the place of something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.errors import ArtifactError
from taskspec.evaluation.comparison import Comparison
from taskspec.pipeline.artifacts import working_folder
from taskspec.pipeline.comparing import TIMINGS, kept

FOUND = Comparison((), (), 0.0, (), (), "", None, {})


def compare(folder: Path, settings: str = "one", timed: str = "all") -> list[str]:
    """Compare, keeping it in a folder; what an interrupted attempt had timed, if it measures."""
    before = []

    def measure(work: Path) -> Comparison:
        before.append((work / TIMINGS).read_text() if (work / TIMINGS).exists() else "")
        (work / TIMINGS).write_text(timed)
        if timed != "all":
            raise KeyboardInterrupt
        return FOUND

    assert kept(folder, settings, measure) == FOUND
    return before


def other_things(folder: Path) -> list[Path]:
    """A run, a stage with results of its own, a file: nothing that a comparison made."""
    (folder / "run" / "stages").mkdir(parents=True)
    (folder / "run" / "recipe.yaml").write_text("name: mine\n")
    with working_folder(folder / "08-evaluate", "one") as work:
        for name in ("results.json", "timings.jsonl", "summary.txt"):
            (work / name).write_text("")
    (folder / "notes.txt").write_text("mine")
    return [folder / "run", folder / "08-evaluate", folder / "notes.txt"]


def test_something_else_is_never_replaced(tmp_path: Path) -> None:
    for place in other_things(tmp_path):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(ArtifactError, match=f"{place} holds something else; name another"):
            compare(place)
        assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [".", "/"])
def test_a_place_without_a_name_is_refused(name: str) -> None:
    with pytest.raises(ArtifactError, match="name another folder"):
        compare(Path(name))


@pytest.mark.parametrize(
    "command",
    [
        ("corpus", "runs/mine", "prompts.jsonl"),
        ("ablation", "quickstart"),
        ("leave-one-out", "mine"),
    ],
)
def test_commands_refuse_before_they_do_anything(command: tuple[str, ...], tmp_path: Path) -> None:
    place = other_things(tmp_path)[0]
    result = CliRunner().invoke(app, ["bench", *command, "--out", str(place)])
    assert result.exit_code == 2
    assert "holds something else; name another folder" in " ".join(result.output.split())


def test_a_comparison_goes_on_is_read_again_or_makes_room_for_another(tmp_path: Path) -> None:
    folder = tmp_path / "bench"
    folder.mkdir()
    with pytest.raises(KeyboardInterrupt):
        compare(folder, timed="half")
    assert compare(folder) == ["half"]
    assert compare(folder) == []
    assert compare(folder, "two") == [""]
    assert [path.name for path in tmp_path.iterdir()] == ["bench"]


def test_a_comparisons_folder_with_something_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    place = tmp_path / "found"
    compare(place)
    compare(place, "two")
    (place / "notes.md").write_text("mine")
    with pytest.raises(ArtifactError, match=f"{place} holds something else; name another"):
        compare(place, "three")
    assert (place / "notes.md").read_text() == "mine"
