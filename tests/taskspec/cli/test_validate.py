"""`taskspec validate`: one short answer, or every problem."""

import json

import pytest
from typer.testing import CliRunner

from taskspec.cli.main import app

RECIPE = """\
name: trial
target: {model: some/model}
corpus: {path: prompts.jsonl}
draft: {pool: {lookup: prompt-lookup}}
"""
SPLITS = ["train"] * 5 + ["validation"] * 2 + ["test"]


@pytest.fixture
def validate(tmp_path, monkeypatch):
    """Writes a recipe with prompts and validates it."""
    monkeypatch.chdir(tmp_path)
    rows = [json.dumps({"prompt": f"hello {i}", "split": s}) for i, s in enumerate(SPLITS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))

    def validate(text, *overrides):
        (tmp_path / "my.yaml").write_text(text)
        return CliRunner().invoke(app, ["validate", "my.yaml", *overrides])

    return validate


def test_a_fine_recipe_is_summed_up(validate):
    result = validate(RECIPE)
    assert result.exit_code == 0
    assert "my.yaml is fine" in result.output
    assert "some/model" in result.output
    assert "5 training, 2 validation, 1 held out" in result.output
    assert "draft.pool.lookup: drafter prompt-lookup (taskspec-decoding" in result.output


def test_prompts_that_held_out_ones_repeat_are_counted(validate, tmp_path):
    rows = [json.dumps({"prompt": f"hello {i % 6}", "split": s}) for i, s in enumerate(SPLITS)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(rows))
    said = validate(RECIPE).output
    assert "3 training, 2 validation, 1 held out; 2 left out, as prompts of a more" in said


def test_overrides_count(validate):
    assert "other/model" in validate(RECIPE, "target.model=other/model").output
    assert "2 training" in validate(RECIPE, "corpus.limit=2").output


def test_every_problem_is_printed_and_the_exit_code_says_so(validate):
    result = validate(f"{RECIPE}partition: {{use: kmean}}\n", "seed=x")
    assert result.exit_code == 2
    assert "my.yaml:5 partition.use: no partitioner named 'kmean'. Did you mean" in result.output
    assert "override seed: expected a whole number, found 'x'" in result.output
    assert "fine" not in result.output
    assert "Traceback" not in result.output


def test_prompts_are_checked_too(validate, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"prompt": "a"}\n{"prompt": 1}\n')
    result = validate(RECIPE, "corpus.path=other.jsonl")
    assert result.exit_code == 2
    assert "other.jsonl:2: `prompt` must be a text" in result.output


def test_too_few_prompts_are_no_fine_recipe(validate, tmp_path):
    (tmp_path / "other.jsonl").write_text('{"prompt": "a"}\n')
    result = validate(RECIPE, "corpus.path=other.jsonl")
    assert result.exit_code == 2
    assert "too few prompts" in result.output


def test_a_missing_recipe_is_answered_with_those_there_are(validate):
    result = CliRunner().invoke(app, ["validate", "quickstat"])
    assert result.exit_code == 2
    assert "quickstat recipe: no such file" in result.output
    assert "Did you mean 'quickstart'?" in result.output


def test_the_quick_start_is_fine():
    assert CliRunner().invoke(app, ["validate", "quickstart"]).exit_code == 0


def test_a_precision_that_lightning_does_not_know_is_no_fine_recipe(validate):
    result = validate(RECIPE, "align.trainer.precision=fp16")
    assert result.exit_code == 2
    assert "precision must be one of auto, 32-true, 16-mixed" in result.output


def test_what_this_machine_cannot_do_is_said(validate, monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    result = validate(RECIPE, "align.trainer.accelerator=cuda")
    assert result.exit_code == 0 and "my.yaml is fine" in result.output
    assert "it cannot run here as it is: align.trainer.accelerator cuda" in result.output
    assert "cannot run here" not in validate(RECIPE).output


def test_tasks_left_out_must_be_there(validate):
    result = validate(RECIPE, "corpus.leave_out=[mth]")
    assert result.exit_code == 2
    assert "corpus.leave_out: no prompt has the task 'mth'; tasks are: none" in result.output


def test_a_device_that_is_not_here_is_noted(validate):
    result = validate(RECIPE, "target.device=cuda:99")
    assert result.exit_code == 0 and "my.yaml is fine" in result.output
    assert "it cannot run here as it is: device 'cuda:99' is not here" in result.output
