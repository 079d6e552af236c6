"""The gate lets a faithful draft through and stops every unfaithful one, saying where."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drafts import text
from taskspec_aligners.kd import KD
from taskspec_aligners.lora_kd import LoraKD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_verifiers.greedy import Greedy

from taskspec.decoding.records import Request
from taskspec.errors import ParityError
from taskspec.interfaces import Aligner, DraftCorpus, Proposal, TrainableDrafter
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.pipeline.parity import Parity, check_parity
from taskspec.recipe.choice import PluginChoice
from taskspec.registry import default_registry
from taskspec.serving.pool import DraftEntry, load_pool

PROMPTS = [(5, 9, 30), (7, 8, 60, 61, 12), (40,)]
REQUESTS = [Request(str(number), prompt, 14) for number, prompt in enumerate(PROMPTS)]
DRAFTS: dict[str, tuple[Any, Any]] = {
    "causal-lm": (CausalLM, CausalLMOptions(layers=2, vocabulary=80, task_vocabulary=50)),
    "feature": (Feature, FeatureOptions(vocabulary=80, task_vocabulary=50)),
}


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def target(tiny_folder: Path, request: pytest.FixtureRequest) -> LanguageModel:
    return load_language_model(str(tiny_folder), device=request.param)


def gate(
    target: LanguageModel,
    folder: Path,
    aligner: Aligner,
    kind: str = "causal-lm",
    spoil: Callable[[Any], None] = lambda served: None,
    requests: Sequence[Request] = REQUESTS,
    **changes: Any,
) -> Parity:
    """Change a draft a little, deliver it, and compare both."""
    drafter_class, options = DRAFTS[kind][0], replace(DRAFTS[kind][1], **changes)
    trained = drafter_class.build(target, DraftCorpus([], PROMPTS), options)
    base, out = folder / "base", folder / "out"
    for place in (base, out):
        place.mkdir()
    trained.save(base)
    trained.specialise(DraftCorpus(PROMPTS, []))
    module = aligner.prepare(trained, seed=0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.add_(0.02 * noise.to(parameter.device))
    aligner.export(trained, out)
    if aligner.adapts:
        trained.save_adapter_extras(out)
    folders = (base, out) if type(aligner).adapts else (out, None)
    choice = PluginChoice(kind, {"vocabulary": 80, "task_vocabulary": 50, **changes})
    pool = load_pool([DraftEntry("small@task-0", choice, *folders)], default_registry(), target)
    spoil(next(iter(pool.drafters.values())))
    assert isinstance(trained, TrainableDrafter)
    return check_parity(trained, pool, "small@task-0", target, requests, Greedy())


@pytest.mark.parametrize("kind", list(DRAFTS))
@pytest.mark.parametrize("aligner", [KD(), LoraKD()], ids=lambda aligner: aligner.name)
def test_a_delivered_draft_does_what_it_did_in_training(
    target: LanguageModel, tmp_path: Path, aligner: Aligner, kind: str
) -> None:
    seen = gate(target, tmp_path, aligner, kind)
    assert seen.steps > 0 and seen.positions > 20
    assert seen.golden_gap < 1e-4 and seen.acceptance_gap < 1e-4


@pytest.mark.parametrize("kind", list(DRAFTS))
def test_a_draft_that_ends_early_is_compared_where_it_drafts(
    tiny_llama_folder: Path, tmp_path: Path, kind: str
) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    (tmp_path / "whole").mkdir()
    whole = gate(target, tmp_path / "whole", KD(), kind)
    seen = gate(target, tmp_path, KD(), kind, stop_below=0.4)
    assert seen.steps > 0 and 0 < seen.positions < whole.positions
    assert seen.golden_gap < 1e-4 and seen.acceptance_gap < 1e-4


def test_a_draft_that_reads_the_newest_tokens_is_compared_on_texts_that_fit(
    tiny_llama_folder: Path, tmp_path: Path
) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    longer = [Request(str(length), tuple(text(length)), 14) for length in (12, 30, 90)]
    seen = gate(target, tmp_path, KD(), requests=longer, window=32)
    assert seen.steps > 0 and seen.positions > 20
    assert seen.golden_gap < 1e-4 and seen.acceptance_gap < 1e-4


class _DeliversAnother(KD):
    """Writes weights a tenth smaller than the trained ones."""

    def export(self, drafter: TrainableDrafter, folder: Path) -> None:
        trained = drafter.module
        drafter.module = copy.deepcopy(trained)
        with torch.no_grad():
            for parameter in drafter.module.parameters():
                parameter.mul_(0.9)
        drafter.save(folder)
        drafter.module = trained


def test_a_delivery_with_other_weights_is_stopped(tiny_llama_folder: Path, tmp_path: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    with pytest.raises(ParityError, match=r"draft 'small@task-0' .*(trained|training)"):
        gate(target, tmp_path, _DeliversAnother())


def test_a_draft_that_proposes_otherwise_than_it_was_trained_is_stopped(
    tiny_llama_folder: Path, tmp_path: Path
) -> None:
    def propose_the_next_id(served: Any) -> None:
        honest = served.propose

        def propose(*arguments: Any) -> Proposal:
            made = honest(*arguments)
            return replace(made, tokens=(made.tokens + 1) % 90)

        served.propose = propose

    target = load_language_model(str(tiny_llama_folder), device="cpu")
    with pytest.raises(ParityError, match=r"at step \d+ of prompt \d+ the engine accepted"):
        gate(target, tmp_path, KD(), spoil=propose_the_next_id)


def test_a_draft_that_samples_from_another_distribution_is_stopped(
    tiny_llama_folder: Path, tmp_path: Path
) -> None:
    def flatten(served: Any) -> None:
        honest = served.propose

        def propose(rows: Any, k: Any, noise: Any) -> Proposal:
            made = honest(rows, k, noise)
            if made.probs is None:
                return made
            flat = made.probs**0.5
            flat /= flat.sum(-1, keepdim=True)
            return replace(made, probs=flat)

        served.propose = propose

    target = load_language_model(str(tiny_llama_folder), device="cpu")
    with pytest.raises(ParityError, match="its probabilities by up to"):
        gate(target, tmp_path, KD(), spoil=flatten)
