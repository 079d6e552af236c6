"""A causal language model drafts what it would say itself, row by row."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from drafts import SAMPLED, check_same, noise, proposed, text
from taskspec_aligners.lora_kd import LoraKD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor
from transformers import AutoTokenizer, LlamaConfig

from taskspec.decoding.engine import Engine
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.sampling import probabilities, sample
from taskspec.errors import ModelError
from taskspec.interfaces import DraftCorpus, Sampling
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import pad_texts
from taskspec.training.online_teacher import OnlineTeacher

NONE = DraftCorpus([], [])


def drafter_for(target: LanguageModel, layers: int = 3, vocabulary: int = 0) -> CausalLM:
    return CausalLM.build(target, NONE, CausalLMOptions(layers=layers, vocabulary=vocabulary))


def twin(drafter: CausalLM) -> CausalLM:
    """A drafter with the same model that has seen nothing."""
    return CausalLM(drafter.options, drafter.module, drafter.vocabulary)


def next_logits(drafter: CausalLM, tokens: Sequence[int]) -> Tensor:
    """What the model says next by one forward pass without a cache."""
    with torch.inference_mode():
        logits: Tensor = drafter.module(torch.tensor([tokens]), use_cache=False).logits
    return logits[0, -1]


def target_id(drafter: CausalLM, column: Tensor) -> int:
    return int(column if drafter.vocabulary is None else drafter.vocabulary[column])


def started(drafter: CausalLM, tokens: Sequence[int], sampling: Sampling = SAMPLED) -> CausalLM:
    drafter.start(0, tokens, sampling)
    return drafter


def continuation(drafter: CausalLM, tokens: Sequence[int], count: int) -> list[int]:
    whole = list(tokens)
    for _ in range(count):
        whole.append(target_id(drafter, next_logits(drafter, whole).argmax()))
    return whole[len(tokens) :]


@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("vocabulary", [0, 40])
def test_greedy_proposals_are_the_models_own_continuation(
    target: LanguageModel, layers: int, vocabulary: int
) -> None:
    drafter = drafter_for(target, layers, vocabulary)
    for row, length in enumerate((1, 5, 19)):
        drafter.start(row, text(length), Sampling())
        proposal = drafter.propose([row], [6], noise(1, 6))
        assert proposal.probs is None
        assert proposed(proposal) == continuation(drafter, text(length), 6)


def test_a_trimmed_head_speaks_target_ids(target: LanguageModel) -> None:
    corpus = DraftCorpus([text(30)], [[77, 78, 79] * 30])
    drafter = CausalLM.build(target, corpus, CausalLMOptions(layers=2, vocabulary=10))
    proposal = started(drafter, text(8)).propose([0], [8], noise(1, 8))
    assert proposal.vocabulary is not None and proposal.probs is not None
    kept = set(proposal.vocabulary.tolist())
    assert {1, 77, 78, 79} <= kept and set(proposed(proposal)) <= kept
    assert proposal.probs.shape == (1, 8, 10)


@pytest.mark.parametrize("vocabulary", [0, 40])
@pytest.mark.parametrize("sampling", [SAMPLED, Sampling(0.7, top_k=9, top_p=0.9)])
def test_tokens_are_drawn_by_the_noise_from_the_returned_distribution(
    target: LanguageModel, sampling: Sampling, vocabulary: int
) -> None:
    drafter, drawing = drafter_for(target, vocabulary=vocabulary), noise(1, 5)
    proposal = started(drafter, text(12), sampling).propose([0], [5], drawing)
    assert proposal.probs is not None
    for place, token in enumerate(proposed(proposal)):
        before = text(12) + proposed(proposal)[:place]
        expected = probabilities(next_logits(drafter, before), sampling)
        torch.testing.assert_close(proposal.probs[0, place], expected, rtol=1e-4, atol=1e-5)
        drawn = sample(proposal.probs[0, place], drawing[0, place])
        assert token == target_id(drafter, drawn)


def test_a_greedy_row_beside_sampled_ones_is_certain(llama: LanguageModel) -> None:
    drafter = started(drafter_for(llama, vocabulary=40), text(9))
    drafter.start(1, text(7), Sampling())
    proposal = drafter.propose([0, 1], [3, 3], noise(2, 3))
    assert proposal.probs is not None and proposal.vocabulary is not None
    assert proposed(proposal, 1) == continuation(drafter, text(7), 3)
    assert proposal.probs[1].amax(-1).tolist() == [1.0] * 3
    assert proposal.vocabulary[proposal.probs[1].argmax(-1)].tolist() == proposed(proposal, 1)


def test_nothing_refused_is_remembered(target: LanguageModel) -> None:
    known, k = text(10), 4
    drafter = started(drafter_for(target), known)
    for turn, accepted in enumerate((4, 0, 2, 1, 3, 4, 0, 0)):
        drawing = noise(1, k, turn)
        proposal, fresh = drafter.propose([0], [k], drawing), started(twin(drafter), known)
        check_same(proposal, fresh.propose([0], [k], drawing), rows=[0])
        other = (proposed(proposal)[accepted - 1] + 1) % 96
        emitted = [*proposed(proposal)[:accepted], other]
        padding = [0] * (k - accepted)
        drafter.commit([0], torch.tensor([emitted + padding]), torch.tensor([accepted + 1]))
        known = known + emitted


def test_rows_of_a_batch_are_what_they_are_alone(target: LanguageModel) -> None:
    drafter, k, order = drafter_for(target), [3, 1, 5, 2], [6, 0, 3, 1]
    texts = {row: text(length, row) for row, length in zip(order, (4, 23, 1, 12), strict=True)}
    for row in order:
        drafter.start(row, texts[row], SAMPLED)
    for turn in range(3):
        drawing = noise(4, 5, turn)
        together = drafter.propose(order, k, drawing)
        for index, row in enumerate(order):
            alone = started(twin(drafter), texts[row])
            check_same(
                alone.propose([0], [k[index]], drawing[index : index + 1]), together, [index]
            )
        emitted = torch.zeros(4, 6, dtype=torch.int64)
        counts = [min(turn + index, k[index]) + 1 for index in range(4)]
        for index, row in enumerate(order):
            stands = [*together.tokens[index, : counts[index] - 1].tolist(), 7 + turn]
            emitted[index, : counts[index]] = torch.tensor(stands)
            texts[row] = texts[row] + stands
        for part in ([2, 0], [3, 1]):  # in parts, and in another order than proposed
            drafter.commit([order[i] for i in part], emitted[part], torch.tensor(counts)[part])


def test_a_row_without_drafted_tokens_stays_in_step(llama: LanguageModel) -> None:
    drafter = started(drafter_for(llama), text(5), Sampling())
    drafter.start(1, text(6), Sampling())
    proposal = drafter.propose([0, 1], [0, 2], noise(2, 2))
    assert proposed(proposal, 0) == []
    drafter.commit([0], torch.tensor([[9, 0, 0]]), torch.tensor([1]))
    assert proposed(drafter.propose([0], [3], noise(1, 3))) == continuation(
        drafter, [*text(5), 9], 3
    )


def test_a_stopped_rows_number_may_be_used_again(llama: LanguageModel) -> None:
    drafter = started(drafter_for(llama), text(20))
    drafter.propose([0], [4], noise(1, 4))
    drafter.stop(0)
    again = started(drafter, text(6, 50), Sampling())
    found = proposed(again.propose([0], [4], noise(1, 4)))
    assert found == continuation(drafter, text(6, 50), 4)


def write_adapter(target: LanguageModel, folder: Path, seed: int) -> Path:
    """An adapter that changes what the draft says."""
    trained, aligner = drafter_for(target), LoraKD()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in aligner.prepare(trained, seed).parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    folder.mkdir()
    aligner.export(trained, folder)
    return folder


def test_rows_with_different_adapters_share_a_batch(target: LanguageModel, tmp_path: Path) -> None:
    folders = {name: write_adapter(target, tmp_path / name, seed=ord(name)) for name in "ab"}

    def adapted() -> CausalLM:
        drafter = drafter_for(target)
        for name, folder in folders.items():
            drafter.add_adapter(name, folder)
        return drafter

    names, drawing, together = ["a", None, "b", "a"], noise(1, 4).expand(4, 4), adapted()
    for row, name in enumerate(names):
        together.start(row, text(9), SAMPLED, adapter=name)
    found = together.propose([0, 1, 2, 3], [4] * 4, drawing)
    assert found.probs is not None
    for row, name in enumerate(names):
        alone = adapted() if name else drafter_for(target)
        alone.start(0, text(9), SAMPLED, adapter=name)
        check_same(alone.propose([0], [4], drawing[:1]), found, rows=[row])
    torch.testing.assert_close(found.probs[0], found.probs[3])
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not torch.allclose(found.probs[one, 0], found.probs[other, 0], atol=1e-3)


def test_a_loaded_model_drafts_as_it_is(
    llama: LanguageModel, save_tiny: Callable[..., Path]
) -> None:
    small = str(save_tiny(LlamaConfig, num_hidden_layers=2, hidden_size=16, head_dim=4))
    options = CausalLMOptions(model=small)
    drafter = started(CausalLM.build(llama, NONE, options), text(9), Sampling())
    found = proposed(drafter.propose([0], [4], noise(1, 4)))
    alone = CausalLM(options, load_language_model(small, device="cpu").model)
    assert found == continuation(alone, text(9), 4)
    assert not drafter.needs_recovery and drafter_for(llama).needs_recovery


@pytest.mark.parametrize("rows", [94, 100])
def test_a_loaded_model_may_pad_its_head_otherwise_than_the_target(
    llama: LanguageModel, save_tiny: Callable[..., Path], rows: int
) -> None:
    with torch.no_grad():  # what no tokenizer writes no model says
        llama.model.get_input_embeddings().weight[94:] = 0
    small = str(save_tiny(LlamaConfig, vocab_size=rows))
    drafter = CausalLM.build(llama, NONE, CausalLMOptions(model=small))
    assert drafter.vocabulary is not None
    assert drafter.vocabulary.tolist() == list(range(min(rows, 96)))
    batch = pad_texts([[5, 9]], [[7, 30, 8]])
    teacher = OnlineTeacher(llama).signal(batch)
    logits = drafter.training_logits(batch, teacher)
    assert logits.shape == teacher.log_probs(drafter.vocabulary).shape
    for sampling, verifier in ((Sampling(), Greedy()), (SAMPLED, Rejection())):
        asked = Request("0", tuple(text(9)), 12, sampling, draft=DraftChoice("small", 3))
        found = Engine(llama, verifier, {"small": drafter}).generate([asked])[0]
        assert sum(step.drafted for step in found.steps) > 0


def test_more_layers_than_the_target_has_are_refused(llama: LanguageModel) -> None:
    with pytest.raises(ModelError, match="layers=9, but the target has 4"):
        drafter_for(llama, layers=9)


def test_a_model_with_another_tokenizer_is_refused(
    llama: LanguageModel, tiny_llama_folder: Path, tmp_path: Path
) -> None:
    stranger = shutil.copytree(tiny_llama_folder, tmp_path / "stranger")
    tokenizer: Any = AutoTokenizer.from_pretrained(stranger)
    tokenizer.add_tokens(["strange"])
    tokenizer.save_pretrained(stranger)
    with pytest.raises(ModelError, match="another tokenizer.*strange"):
        CausalLM.build(llama, NONE, CausalLMOptions(model=str(stranger)))


@pytest.mark.parametrize("company", [None, Sampling(), SAMPLED], ids=["alone", "greedy", "sampled"])
@pytest.mark.parametrize("sampling", [Sampling(), SAMPLED], ids=["greedy", "sampled"])
def test_a_draft_ends_before_it_is_less_likely_than_wanted_to_stand(
    target: LanguageModel, sampling: Sampling, company: Sampling | None
) -> None:
    free = CausalLM.build(target, NONE, CausalLMOptions(layers=3, vocabulary=24))
    texts, wholes, chances = [text(n) for n in range(5, 15)], [], []
    for row, read in enumerate(texts):
        free.start(row, read, sampling)
        wholes.append(proposed(free.propose([row], [6], noise(1, 6, row))))
        known = [[*read, *wholes[-1][:place]] for place in range(6)]
        highest = [next_logits(free, each).softmax(-1).max().item() for each in known]
        chances.append([math.prod(highest[: place + 1]) for place in range(6)])
    least = 1.001 * sorted(each[2] for each in chances)[5]
    ending = CausalLM(CausalLMOptions(stop_below=least), free.module, free.vocabulary)
    lengths = set()
    for row, read in enumerate(texts):
        ending.start(row, read, sampling)
        rows, drawn = [row], noise(1, 6, row)
        if company is not None:
            ending.start(99, text(7), company)
            rows, drawn = [row, 99], torch.cat([drawn, noise(1, 6, 99)])
        found = proposed(ending.propose(rows, [6, 3][: len(rows)], drawn))
        ending.stop(99)
        expected = next((i for i, chance in enumerate(chances[row]) if chance < least), 6)
        assert found == wholes[row][:expected]
        lengths.add(expected)
    assert len(lengths) > 1


@pytest.mark.parametrize("options", [{"layers": 0}, {"vocabulary": -1}, {"stop_below": 1.0}])
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        CausalLMOptions(**options)


def test_it_writes_what_the_module_says_while_an_adapter_trains(target: LanguageModel) -> None:
    drafter, prompts = drafter_for(target, vocabulary=60), [text(5), text(1), text(9, first=40)]
    plain = [continuation(drafter, prompt, 6) for prompt in prompts]
    assert drafter.sample(prompts, [6, 6, 6], Sampling(), torch.Generator()) == plain
    module, generator = LoraKD().prepare(drafter, seed=0), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    module.train()
    with torch.autocast("cpu", torch.bfloat16):
        adapted = drafter.sample(prompts, [6, 2, 4], Sampling(), torch.Generator())
        drafter.module(torch.tensor([prompts[0]])).logits.sum().backward()
    assert module.training
    expected = [
        continuation(drafter, prompt, count)
        for prompt, count in zip(prompts, (6, 2, 4), strict=True)
    ]
    assert adapted == expected and adapted[0] != plain[0]


def test_a_draft_reads_the_newest_of_a_text_longer_than_its_window(target: LanguageModel) -> None:
    drafter = CausalLM.build(target, NONE, CausalLMOptions(layers=3, window=32))
    for row, length in enumerate((28, 30, 90)):
        drafter.start(row, text(length), Sampling())
    rows, noises = [0, 1, 2], noise(3, 4)
    proposal = drafter.propose(rows, [4, 4, 4], noises)
    for row, read in enumerate((text(28), text(30)[-16:], text(90)[-16:])):
        assert proposed(proposal, row) == continuation(drafter, read, 4)
    drafter.commit(rows, torch.full((3, 2), 5), torch.tensor([2, 2, 2]))
    proposal = drafter.propose(rows, [4, 4, 4], noises)
    for row, read in enumerate((text(28)[-14:], text(30)[-16:], text(90)[-16:])):
        assert proposed(proposal, row) == continuation(drafter, [*read, 5, 5], 4)


def test_a_window_is_wide_enough_to_read_something() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        CausalLMOptions(window=8)


def test_answers_are_the_targets_where_the_draft_is_made_for_shorter_texts(
    tiny_llama_folder: Path, llama: LanguageModel, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_llama_folder, tmp_path / "short")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"max_position_embeddings": 40}))
    drafter = CausalLM.build(llama, NONE, CausalLMOptions(model=str(folder)))
    asked = [Request(str(n), text(n), 60, ignore_eos=True) for n in (3, 35, 120)]
    helped = [replace(each, draft=DraftChoice("short", 3)) for each in asked]
    plain = Engine(llama, Greedy()).generate(asked)
    found = Engine(llama, Greedy(), {"short": drafter}).generate(helped, batch_size=2)
    assert [each.tokens for each in found] == [each.tokens for each in plain]
    assert sum(step.accepted for each in found for step in each.steps) > 0
