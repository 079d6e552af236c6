"""Distillation of whole drafts and of adapters: what trains, against what, and what is kept."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors import safe_open
from taskspec_aligners.kd import KD, KDOptions
from taskspec_aligners.lora_kd import LoraKD, LoraKDOptions
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from torch import Tensor, nn

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, AlignmentLoss, DraftCorpus, Sampling
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import AlignmentBatch, make_batch

ALIGNERS = pytest.mark.parametrize("aligner", [KD(), LoraKD()], ids=lambda each: each.name)


@pytest.fixture
def target(tiny_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_folder), device="cpu")


def drafter_for(target: LanguageModel, layers: int = 2, vocabulary: int = 64) -> CausalLM:
    options = CausalLMOptions(layers=layers, vocabulary=vocabulary)
    return CausalLM.build(target, DraftCorpus([], []), options)


def batch_for(target: LanguageModel) -> AlignmentBatch:
    """Two answers with the target's view of them."""
    decoder: Any = target.model.get_decoder()  # type: ignore[operator]
    answers = []
    for prompt, ids in ((4, torch.arange(5, 20)), (9, torch.arange(60, 80))):
        with torch.no_grad():
            hidden = decoder(input_ids=ids[None, :-1]).last_hidden_state[0, prompt - 1 :]
        answer = tuple(ids[prompt:].tolist())
        normalizer = target.head(hidden).logsumexp(-1)
        answers.append(
            StoredAnswer("", tuple(ids[:prompt].tolist()), answer, True, hidden, normalizer)
        )
    return make_batch(answers, target.head)


def logits_of(drafter: CausalLM, made: AlignmentBatch) -> Tensor:
    assert made.teacher is not None
    return drafter.training_logits(made.batch, made.teacher)


def loss_of(aligner: Aligner, drafter: CausalLM, made: AlignmentBatch) -> AlignmentLoss:
    assert made.teacher is not None
    return aligner.loss(logits_of(drafter, made), made.teacher, drafter.vocabulary)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def move(module: nn.Module) -> None:
    """Stands in for training: everything that trains becomes something else."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in trainable(module).values():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)


@ALIGNERS
def test_all_that_trains_learns_and_nothing_else_does(
    target: LanguageModel, aligner: Aligner
) -> None:
    drafter, made = drafter_for(target), batch_for(target)
    module = aligner.prepare(drafter, seed=0)
    assert module is drafter.module
    move(module)
    loss_of(aligner, drafter, made).loss.backward()
    learning = {
        name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()
    }
    assert learning and learning == set(trainable(module))


@pytest.mark.parametrize("frozen", [True, False])
def test_kd_trains_the_whole_draft_and_the_embedding_if_asked(
    target: LanguageModel, frozen: bool
) -> None:
    drafter = drafter_for(target)
    module: Any = KD(KDOptions(freeze_embeddings=frozen)).prepare(drafter, seed=0)
    embedding = module.get_input_embeddings().weight
    fixed = [p for p in module.parameters() if not p.requires_grad]
    assert [p is embedding for p in fixed] == ([True] if frozen else [])


@pytest.mark.parametrize("adapt_head", [True, False])
def test_lora_adapts_every_linear_layer_and_the_head_if_asked(
    target: LanguageModel, adapt_head: bool
) -> None:
    drafter = drafter_for(target)
    linear = {n for n, m in drafter.module.named_modules() if isinstance(m, nn.Linear)}
    expected = linear if adapt_head else linear - {"lm_head"}
    module = LoraKD(LoraKDOptions(adapt_head=adapt_head)).prepare(drafter, seed=0)
    adapted = {name.partition(".lora_")[0] for name in trainable(module)}
    assert {name.removeprefix("base_model.model.") for name in adapted} == expected


@ALIGNERS
def test_a_draft_that_is_the_target_has_nothing_to_learn(
    target: LanguageModel, aligner: Aligner
) -> None:
    drafter, made = drafter_for(target, layers=4, vocabulary=0), batch_for(target)
    module = aligner.prepare(drafter, seed=0)
    result = loss_of(aligner, drafter, made)
    result.loss.backward()
    assert result.loss.abs() < 1e-5 and result.metrics["alpha"] > 1 - 1e-5
    assert all(p.grad.abs().max() < 1e-3 for p in trainable(module).values() if p.grad is not None)
    move(module)
    moved = loss_of(aligner, drafter, made)
    assert moved.loss > 1e-3 and moved.metrics["alpha"] < 1 - 1e-3


def test_an_exported_draft_loads_with_the_trained_ones_logits(
    target: LanguageModel, tmp_path: Path
) -> None:
    drafter, made, aligner = drafter_for(target), batch_for(target), KD()
    before = logits_of(drafter, made)
    move(aligner.prepare(drafter, seed=0))
    aligner.export(drafter, tmp_path)
    loaded = CausalLM.load(tmp_path, target, drafter.options)
    assert torch.equal(logits_of(loaded, made), logits_of(drafter, made))
    assert not torch.allclose(logits_of(loaded, made), before, atol=0.1)


@pytest.mark.parametrize("adapt_head", [True, False])
def test_an_exported_adapter_on_the_base_draft_gives_the_trained_ones_logits(
    target: LanguageModel, tmp_path: Path, adapt_head: bool
) -> None:
    # peft writes the names of 20 layers and more in another way.
    drafter, made = drafter_for(target, layers=3), batch_for(target)
    aligner = LoraKD(LoraKDOptions(rank=4, adapt_head=adapt_head))
    move(aligner.prepare(drafter, seed=0))
    aligner.export(drafter, tmp_path)
    base = drafter_for(target, layers=3)
    base.add_adapter("task", tmp_path)
    prompt = made.batch.tokens[1].tolist()
    for row, adapter in enumerate((None, "task")):
        base.start(row, prompt, Sampling(1.0), adapter=adapter)
    plain, adapted = base.propose([0, 1], [1, 1], torch.zeros(2, 1)).probs[:, 0]  # type: ignore[index]
    last = logits_of(drafter, made)[-1].softmax(-1)
    torch.testing.assert_close(adapted, last, rtol=1e-4, atol=1e-5)
    untrained = logits_of(drafter_for(target, layers=3), made)[-1].softmax(-1)
    torch.testing.assert_close(plain, untrained, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(plain, adapted, atol=1e-3)


def test_an_adapter_starts_as_nothing_and_leaves_the_base_draft_alone(
    target: LanguageModel,
) -> None:
    drafter, made = drafter_for(target), batch_for(target)
    before = logits_of(drafter, made)
    module: Any = LoraKD().prepare(drafter, seed=0)
    assert torch.equal(logits_of(drafter, made), before)
    move(module)
    assert not torch.allclose(logits_of(drafter, made), before, atol=0.1)
    with module.disable_adapter():
        assert torch.equal(logits_of(drafter, made), before)


def test_the_seed_decides_where_an_adapter_starts(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), device="cpu")
    drafters = [drafter_for(target) for _ in range(3)]
    state = torch.get_rng_state()
    first, again, other = (
        trainable(LoraKD().prepare(drafter, seed))
        for drafter, seed in zip(drafters, (1, 1, 2), strict=True)
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@ALIGNERS
def test_exports_hold_safetensors_and_text_only(
    target: LanguageModel, aligner: Aligner, tmp_path: Path
) -> None:
    drafter = drafter_for(target)
    aligner.prepare(drafter, seed=0)
    aligner.export(drafter, tmp_path)
    assert {path.suffix for path in tmp_path.rglob("*")} <= {".safetensors", ".json", ".md"}
    (weights,) = tmp_path.glob("*.safetensors")
    if aligner.adapts:
        with safe_open(weights, framework="pt") as file:
            assert all("lora_" in name for name in file.keys())  # noqa: SIM118


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": 0}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be at least 1, not 0"):
        LoraKDOptions(**options)


def test_whole_drafts_train_where_the_module_names_no_input_embeddings() -> None:
    drafter = SimpleNamespace(module=nn.Linear(2, 2).requires_grad_(False))
    module = KD().prepare(drafter, seed=0)  # type: ignore[arg-type]
    assert all(parameter.requires_grad for parameter in module.parameters())
