"""A feature draft goes on from the target's own states."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from drafts import SAMPLED, check_same, noise, proposed, text
from features import answers_of, begin, commit, drafter_for, lesson, states, train, trained
from safetensors.torch import load_file
from scipy.stats import chisquare
from taskspec_aligners.lora_kd import LoraKD, LoraKDOptions
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor
from transformers import MistralConfig

from taskspec.decoding.engine import Engine
from taskspec.decoding.fixed_shape import SWITCH
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.sampling import probabilities, sample
from taskspec.errors import DecodingError, ModelError
from taskspec.interfaces import Sampling
from taskspec.models.loading import LanguageModel, load_language_model


@pytest.mark.parametrize("k", [1, 2, 3, 5])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_greedy_answers_are_the_targets(target: LanguageModel, k: int, batch_size: int) -> None:
    def requests(draft: DraftChoice | None) -> list[Request]:
        return [Request(str(i), tuple(text(2 + 3 * i, i)), 12 + i, draft=draft) for i in range(7)]

    plain = Engine(target, Greedy()).generate(requests(None))
    engine = Engine(target, Greedy(), {"feature": trained(target)})
    drafted = engine.generate(requests(DraftChoice("feature", k)), batch_size)
    assert [one.tokens for one in drafted] == [one.tokens for one in plain]
    steps = [step for one in drafted for step in one.steps]
    assert any(step.accepted for step in steps) and any(s.accepted < s.drafted for s in steps)


def test_a_loop_of_fixed_shape_drafts_what_single_steps_draft(
    target: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for fixed in "01":
        monkeypatch.setenv(SWITCH, fixed)
        engine = Engine(target, Greedy(), {"feature": trained(target, vocabulary=64)})
        choice = DraftChoice("feature", 4)
        asked = [Request(str(i), tuple(text(5 + 3 * i)), 24, draft=choice) for i in range(4)]
        found[fixed] = [(each.tokens, each.steps) for each in engine.generate(asked, 3)]
    assert found["1"] == found["0"]
    assert any(step.accepted for _, steps in found["0"] for step in steps)


def test_answers_end_where_the_targets_do(llama: LanguageModel) -> None:
    said = Engine(llama, Greedy()).generate([Request("0", tuple(text(6)), 20)])[0].tokens
    ending = copy.copy(llama)
    object.__setattr__(ending, "eos_token_ids", frozenset({said[9]}))
    engine = Engine(ending, Greedy(), {"feature": trained(llama)})
    for k in range(1, 6):
        request = Request("0", tuple(text(6)), 20, draft=DraftChoice("feature", k))
        found = engine.generate([request])[0]
        assert found.tokens == said[: said.index(said[9]) + 1] and found.finish == "eos"


@pytest.mark.parametrize("vocabulary", [0, 40])
def test_sampled_answers_have_the_targets_distribution(
    llama: LanguageModel, vocabulary: int
) -> None:
    sampling, prompt, count = Sampling(1.0, top_k=12), text(7), 1200
    engine = Engine(llama, Rejection(), {"feature": trained(llama, vocabulary)})
    requests = [
        Request(str(i), tuple(prompt), 3, sampling, i, DraftChoice("feature", 2), True)
        for i in range(count)
    ]
    generations = engine.generate(requests, 100)
    drawn = [one.tokens for one in generations]
    assert any(step.accepted for one in generations for step in one.steps)
    expected: dict[tuple[int, int], float] = {}
    for first, p in enumerate(next_distribution(llama, prompt, sampling).tolist()):
        if p:
            after = next_distribution(llama, [*prompt, first], sampling).tolist()
            expected |= {(first, second): p * q for second, q in enumerate(after) if q}
    found = {pair: sum(one[:2] == pair for one in drawn) for pair in expected}
    assert sum(found.values()) == count, "an impossible pair of tokens was drawn"
    kept = [pair for pair in expected if expected[pair] * count >= 5]
    counts = [found[pair] for pair in kept]
    means = [expected[pair] * count for pair in kept]
    rest = count - sum(means)
    assert chisquare([*counts, count - sum(counts)], [*means, rest]).pvalue > 1e-5


@torch.inference_mode()
def next_distribution(target: LanguageModel, tokens: Sequence[int], sampling: Sampling) -> Tensor:
    logits = target.head(states(target, tokens)[-1])
    return probabilities(logits, sampling)


def test_tokens_are_drawn_by_the_noise_from_the_returned_distribution(
    llama: LanguageModel,
) -> None:
    drafter, drawing = trained(llama, vocabulary=40), noise(1, 5)
    proposal = begin(drafter, llama, text(8), Sampling(0.7, top_k=9)).propose([0], [5], drawing)
    assert proposal.probs is not None and proposal.vocabulary is not None
    assert proposal.probs.shape == (1, 5, 40) and int((proposal.probs[0, 0] > 0).sum()) == 9
    drawn = proposal.vocabulary[sample(proposal.probs[0], drawing[0])]
    assert drawn.tolist() == proposed(proposal)


def test_nothing_drafted_is_remembered(target: LanguageModel) -> None:
    drafter, fresh, known, k = trained(target), trained(target), text(10), 4
    begin(drafter, target, known)
    for turn, accepted in enumerate((4, 0, 2, 1, 3, 4, 0, 0)):
        drawing = noise(1, k, turn)
        proposal = drafter.propose([0], [k], drawing)
        check_same(proposal, begin(fresh, target, known).propose([0], [k], drawing))
        other = (proposed(proposal)[min(accepted, k - 1)] + 1) % 96
        emitted = [*proposed(proposal)[:accepted], other]
        commit(drafter, target, [0], [known], [emitted])
        known = known + emitted


def test_rows_of_a_batch_are_what_they_are_alone(target: LanguageModel) -> None:
    drafter, fresh, order = trained(target), trained(target), [6, 0, 3, 1]
    texts = [text(length, length) for length in (4, 23, 1, 12)]
    for row, known in zip(order, texts, strict=True):
        begin(drafter, target, known, row=row)
    for turn, k in enumerate(([3, 1, 5, 2], [0, 4, 2, 1], [2, 2, 0, 5])):
        drawing = noise(4, 5, turn)
        together = drafter.propose(order, k, drawing)
        for index, known in enumerate(texts):
            if k[index]:
                alone = begin(fresh, target, known)
                drawn = drawing[index : index + 1]
                check_same(alone.propose([0], [k[index]], drawn), together, [index])
        counts = [min(turn + index, k[index]) for index in range(4)]
        emitted = [[*proposed(together, i)[:n], 7 + turn] for i, n in enumerate(counts)]
        for part in ([2, 0], [3, 1]):  # in parts, and in another order than proposed
            commit(
                drafter,
                target,
                [order[i] for i in part],
                [texts[i] for i in part],
                [emitted[i] for i in part],
            )
        texts = [[*known, *new] for known, new in zip(texts, emitted, strict=True)]


@pytest.mark.parametrize("train_head", [False, True])
@pytest.mark.parametrize("vocabulary", [0, 40])
def test_what_is_saved_drafts_equally(
    target: LanguageModel, tmp_path: Path, vocabulary: int, train_head: bool
) -> None:
    options = FeatureOptions(vocabulary=vocabulary, train_head=train_head)
    drafter = drafter_for(target, vocabulary=vocabulary, train_head=train_head)
    train(target, drafter, 3)
    drafter.save(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    assert ("head.weight" in saved) == train_head and not any("embed" in name for name in saved)
    loaded = Feature.load(tmp_path, target, options)
    one, other = (
        begin(each, target, text(9)).propose([0], [4], noise(1, 4)) for each in (drafter, loaded)
    )
    check_same(one, other)


def test_folders_without_a_draft_for_this_target_are_refused(
    llama: LanguageModel, tiny_qwen2_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="holds no feature draft"):
        Feature.load(tmp_path, llama, FeatureOptions())
    drafter_for(load_language_model(str(tiny_qwen2_folder), device="cpu")).save(tmp_path)
    with pytest.raises(ModelError, match="was made for another target"):
        Feature.load(tmp_path, llama, FeatureOptions())


def test_rows_with_different_adapters_share_a_batch(target: LanguageModel, tmp_path: Path) -> None:
    made, together = lesson(target, 0), trained(target)
    expected = {}
    for seed in (1, 2):
        drafter = trained(target)
        drafter.module = copy.deepcopy(drafter.module)
        aligner = LoraKD(LoraKDOptions(rank=4, alpha=8))
        wrapped = aligner.prepare(drafter, seed)
        assert any("fusion" in n for n, p in wrapped.named_parameters() if p.requires_grad)
        with torch.no_grad():
            for parameter in wrapped.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.1 * noise(*parameter.shape, seed))
        logits = drafter.training_logits(made.batch, made.teacher)
        logits.sum().backward()
        expected[f"task-{seed}"] = logits.detach()[0].softmax(-1)
        aligner.export(drafter, tmp_path / str(seed))
        together.add_adapter(f"task-{seed}", tmp_path / str(seed))
    prompt = answers_of(target.source)[0].prompt_ids
    for row, name in enumerate(("task-1", None, "task-2")):
        begin(together, target, prompt, row=row, adapter=name)
    found = together.propose([0, 1, 2], [2, 3, 1], noise(3, 3))
    assert found.probs is not None and found.lengths.tolist() == [2, 3, 1]
    for row, name in ((0, "task-1"), (2, "task-2")):
        torch.testing.assert_close(found.probs[row, 0], expected[name], rtol=0, atol=1e-5)
    check_same(
        begin(trained(target), target, prompt).propose([0], [3], noise(3, 3)[1:2]), found, [1]
    )


def test_targets_without_a_layer_that_sees_everything_are_refused(
    save_tiny: Callable[..., Path],
) -> None:
    target = load_language_model(str(save_tiny(MistralConfig, sliding_window=8)), device="cpu")
    with pytest.raises(ModelError, match="sliding attention window; use causal-lm"):
        Feature.check(target, FeatureOptions())


def test_it_says_that_it_needs_the_targets_states(llama: LanguageModel) -> None:
    with pytest.raises(DecodingError, match="hidden states"):
        drafter_for(llama).start(0, text(4), SAMPLED)


@pytest.mark.parametrize(
    "option",
    [{"vocabulary": -1}, {"rollout_steps": 0}, {"feature_noise": -0.1}, {"stop_below": -0.1}],
)
def test_options_out_of_range_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{next(iter(option))} "):
        FeatureOptions(**option)
