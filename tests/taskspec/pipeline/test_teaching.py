"""From answers to aligned drafts, whatever is kept of the target and whoever writes the texts."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from safetensors.torch import load_file

from taskspec.errors import ModelError
from taskspec.interfaces import TrainableDrafter
from taskspec.pipeline.answering import load_answers
from taskspec.pipeline.context import RunContext
from taskspec.pipeline.run import stages
from taskspec.pipeline.runner import run_stages
from taskspec.recipe.loading import load_recipe
from taskspec.registry import default_registry


def teach(recipe: Path, *overrides: str, until: str = "align") -> RunContext:
    registry = default_registry()
    loaded = load_recipe(str(recipe), [f"runs={recipe.parent / 'runs'}", *overrides], registry)
    names = [stage.name for stage in stages()]
    return run_stages(
        stages()[: names.index(until) + 1], loaded, registry, Console(file=io.StringIO())
    )


@pytest.mark.parametrize("signal", ["top-k", "none"])
def test_any_signal_teaches_every_task(write_recipe: Callable[..., Path], signal: str) -> None:
    context = teach(write_recipe(), f"collect.signal={signal}", "collect.top_k=7")
    for name in ("answers", "free"):
        for answer in load_answers(context.stage_folders["collect"], name).values():
            assert answer.hidden is None and answer.log_normalizer is None
            assert (answer.top is None) == (signal == "none")
            if answer.top is not None:
                assert answer.top.ids.shape == (len(answer.answer_ids), 7)
                assert answer.top.vocabulary_size == 96
    drafts = {path.name for path in context.stage_folders["align"].iterdir() if path.is_dir()}
    assert drafts == {f"small@{key}" for key in ("shared", "task-0", "task-1", "single")}


def test_the_likely_tokens_of_an_answer_begin_with_what_it_says(
    write_recipe: Callable[..., Path],
) -> None:
    context = teach(write_recipe(), "collect.signal=top-k", until="collect")
    for answer in load_answers(context.stage_folders["collect"]).values():
        assert answer.top is not None
        assert answer.top.ids[:, 0].tolist() == list(answer.answer_ids), "greedy answers"


@pytest.mark.slow
def test_objective_and_data_are_part_of_what_a_draft_is(write_recipe: Callable[..., Path]) -> None:
    recipe = write_recipe("kd")
    found = []
    for override in ("seed=0", "align.options.data=student", "align.options.objective=tvd++"):
        context = teach(recipe, override)
        align = context.stage_folders["align"]
        found.append(
            (
                (align / "done.json").read_bytes(),
                load_file(align / "small@task-0/draft/model.safetensors")["lm_head.weight"],
            )
        )
    for index, (mark, weight) in enumerate(found):
        for other_mark, other_weight in found[:index]:
            assert mark != other_mark and not weight.equal(other_weight)


def test_a_draft_that_cannot_learn_so_is_refused_before_anything_is_answered(
    write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe()
    drafter = default_registry().get("drafter", "causal-lm")
    monkeypatch.setattr(drafter, "sample", TrainableDrafter.sample)
    with pytest.raises(ModelError, match=r"draft\.pool\.small: .* writes no texts of its own"):
        teach(recipe, "align.options.data=mixed")
    monkeypatch.setattr(drafter, "hidden_layers", (-1,))
    with pytest.raises(ModelError, match=r"draft\.pool\.small: .* set it to states or none"):
        teach(recipe, "collect.signal=top-k")
