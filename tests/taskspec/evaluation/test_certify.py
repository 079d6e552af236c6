"""The certificate passes what loses nothing, sees what does, and says where."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from typer.testing import CliRunner

from taskspec.cli.main import app
from taskspec.decoding.records import DraftChoice, Generation, Request
from taskspec.evaluation.certificate import FaultFinding, GreedyFinding, SampledFinding
from taskspec.evaluation.losslessness import MIXED, _ranks, certify_sampled, greedy_settings
from taskspec.interfaces import Sampling


@pytest.fixture
def bundle(write_recipe: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    recipe = write_recipe()
    monkeypatch.chdir(recipe.parent)
    result = CliRunner().invoke(app, ["run", recipe.name])
    assert result.exit_code == 0, result.output
    return recipe.parent / "runs" / "tiny" / "bundle"


@pytest.mark.slow
def test_a_bundle_is_certified_and_planted_faults_are_caught(bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "certificate.json"
    common = ["certify", str(bundle), "--corpus", "prompts.jsonl", "--tokens", "12"]
    less = ["--count", "8", "--lengths", "1,4", "--batch-sizes", "1,3", "--verifier", "rejection"]
    result = CliRunner().invoke(app, [*common, *less, "--draws", "12", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert result.output.endswith("certified\n") and "caught" in result.output
    found = json.loads(out.read_text())
    assert found["passed"] and found["verifier"]["name"] == "rejection"
    assert len(found["faults"]) == 4 and all(rule["passed"] for rule in found["verifier"]["rules"])
    assert found["greedy"][0]["dtype"] == "float32" and found["greedy"][0]["mismatches"] == []
    assert {each["temperature"] for each in found["sampled"]} == {1.0, 0.7}
    greedy = ["--count", "8", "--lengths", "4", "--batch-sizes", "3", "--out", str(out)]
    result = CliRunner().invoke(app, [*common, *greedy])
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert found["verifier"]["name"] == "greedy" and not found["sampled"]
    assert len(found["faults"]) == 3, "one fault shows in sampled answers alone"
    assert all(each["mismatches"] for each in found["faults"])
    for options, said in {
        ("--verifier", "typical"): "not lossless",
        ("--lengths", "1,x"): "--lengths takes whole numbers",
        ("--tokens", "250"): "fewer --tokens",
    }.items():
        result = CliRunner().invoke(app, [*common, *options])
        assert result.exit_code == 2 and said in result.output


def test_settings_cover_drafts_lengths_batches_and_mixtures() -> None:
    from taskspec.decoding.records import DraftChoice

    choices = {name: {k: DraftChoice(name, k) for k in (1, 4)} for name in ("a", "b")}
    found = greedy_settings(choices, (1, 8))
    assert len({(each.draft, each.batch_size) for each in found}) == len(found) == 10
    mixed = next(each for each in found if each.draft == MIXED)
    assert len(mixed.choices) == 5 and mixed.batch_size == 8


def test_ranks_are_uniform_for_the_distribution_alone() -> None:
    from scipy.stats import kstest

    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([0.5, 0.2, 0.2, 0.1], dtype=torch.float64)
    drawn = p.multinomial(4000, replacement=True, generator=generator)
    rows = p.expand(4000, -1)
    assert kstest(_ranks(rows, drawn, generator), "uniform").pvalue > 1e-3
    other = torch.tensor([0.4, 0.2, 0.2, 0.2]).multinomial(4000, True, generator=generator)
    assert kstest(_ranks(rows, other, generator), "uniform").pvalue < 1e-6


def test_findings_judge_themselves() -> None:
    assert not GreedyFinding("float32", 4, ("a: b",), 0, 0.0).passed
    assert GreedyFinding("bfloat16", 4, (), 2, 0.01).passed
    assert not SampledFinding(1.0, 0, 1.0, 2, 9, 1, 0.5).passed
    assert not SampledFinding(1.0, 0, 1.0, 2, 9, 0, 1e-6).passed
    assert FaultFinding("", 0, 5, 1e-6).caught and FaultFinding("", 1, 5, None).caught
    assert not FaultFinding("", 0, 5, 0.2).caught


def test_no_two_sampled_answers_share_their_noise() -> None:
    """With one seed for several prompts, ranks of right samples would not be independent."""
    seeds: list[int] = []

    class Asked:
        def generate(self, requests: Sequence[Request], batch_size: int) -> list[Generation]:
            seeds.extend(request.seed for request in requests)
            return [Generation(each.id, (1,), "length", ()) for each in requests]

    engine: Any = Asked()
    prompts = [Request(str(index), (2, 3), 4) for index in range(3)]
    settings = greedy_settings({"a": {2: DraftChoice("a", 2)}}, (1, 4))
    certify_sampled(engine, cast(Any, None), prompts, settings, Sampling(1.0), 5)
    assert len(seeds) == len(set(seeds)) == len(settings) * 3 * 5
