"""A feature draft learns to go on from its own states."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from drafts import SAMPLED, noise, proposed, text
from features import answers_of, begin, drafter_for, lesson, train, trained
from taskspec_aligners.kd import KD
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_drafters.feature_training import TargetReader, choose_depths, roll_out

from taskspec.interfaces import Sampling, TrainingBatch
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import pad_texts
from taskspec.training.losses import acceptance


def test_training_logits_are_the_first_drafted_tokens(target: LanguageModel) -> None:
    drafter, made = trained(target, vocabulary=40), lesson(target, 3, count=3)
    logits = drafter.training_logits(made.batch, made.teacher)
    place = 0
    for answer in answers_of(target.source)[3:6]:
        for length in range(len(answer.answer_ids)):
            known = [*answer.prompt_ids, *answer.answer_ids[:length]]
            if length in (0, 1, 9):
                found = begin(drafter, target, known).propose([0], [1], noise(1, 1))
                assert found.probs is not None
                expected = logits[place + length].softmax(-1)
                torch.testing.assert_close(found.probs[0, 0], expected, rtol=0, atol=1e-5)
        place += len(answer.answer_ids)
    assert place == len(logits)


def test_roll_outs_are_the_later_drafted_tokens(target: LanguageModel) -> None:
    drafter, known = trained(target), text(9)
    proposal = begin(drafter, target, known).propose([0], [4], noise(1, 4))
    assert proposal.probs is not None
    tokens = [*known, *proposed(proposal)]
    batch = pad_texts([known, text(14, 5)], [proposed(proposal), text(3)])
    given, embeddings = drafter._target().read(batch)  # noqa: SLF001
    with torch.no_grad():
        predicted = roll_out(drafter.module, given, embeddings, batch, 4)
        for step in range(4):
            place = len(known) - 1 + step
            found = drafter.module.head(predicted[step][0, place]).softmax(-1)
            torch.testing.assert_close(found, proposal.probs[0, step], rtol=0, atol=1e-5)
    assert batch.tokens[0, : len(tokens) - 1].tolist() == tokens[:-1]


def alpha(target: LanguageModel, drafter: Feature) -> list[float]:
    """Theoretical acceptance of the first and second drafted token on answers not trained on."""
    made = lesson(target, 40)
    given, embeddings = drafter._target().read(made.batch)  # noqa: SLF001
    log_p = made.teacher.log_probs(drafter.vocabulary)
    with torch.no_grad():
        rolled = roll_out(drafter.module.eval(), given, embeddings, made.batch, 2)
        logits = [drafter.module.head(each[made.batch.trained]) for each in rolled]
    return [float(acceptance(each, log_p)) for each in logits]


@pytest.mark.parametrize("vocabulary", [0, 64])
def test_training_raises_acceptance_of_first_and_later_tokens(
    llama: LanguageModel, vocabulary: int
) -> None:
    before = alpha(llama, drafter_for(llama, vocabulary=vocabulary))
    after = alpha(llama, trained(llama, vocabulary, steps=300))
    assert after[0] > before[0] + 0.03 and after[1] > before[1] + 0.03


def test_training_leaves_the_target_as_it_is(tiny_llama_folder: Path) -> None:
    target = load_language_model(str(tiny_llama_folder), "bfloat16", "cpu")
    kept = {name: each.clone() for name, each in target.model.state_dict().items()}
    drafter = drafter_for(target, train_head=True)
    drafter.module.float()
    train(target, drafter, 3)
    for name, each in target.model.state_dict().items():
        assert each.dtype == kept[name].dtype and torch.equal(each, kept[name])
    assert not any(each.requires_grad for each in target.model.parameters())
    proposal = begin(drafter, target, text(6)).propose([0], [3], noise(1, 3))
    assert len(proposed(proposal)) == 3


def test_each_text_is_read_once_and_means_the_same_in_any_batch(llama: LanguageModel) -> None:
    reads: list[int] = []
    decoder: Any = llama.model
    handle = decoder.get_decoder().register_forward_pre_hook(
        lambda module, args, kwargs: reads.append(len(kwargs["input_ids"])), with_kwargs=True
    )
    reader, forgetful = TargetReader(llama.model), TargetReader(llama.model, most_bytes=0)
    one, other = lesson(llama, 0, 4).batch, lesson(llama, 2, 4).batch
    for batch in (one, other, one):
        known, embedded = reader.read(batch)
        again, embeddings = forgetful.read(batch)
        torch.testing.assert_close(known, again, rtol=0, atol=1e-5)
        assert torch.equal(embedded, embeddings) and not bool(known[batch.segments < 0].any())
    handle.remove()
    assert reads == [4, 4, 2, 4, 4]


@pytest.mark.parametrize("train_head", [False, True])
def test_the_head_trains_only_when_asked(llama: LanguageModel, train_head: bool) -> None:
    drafter = drafter_for(llama, train_head=train_head)
    KD().prepare(drafter, seed=0)
    trains = {name for name, each in drafter.module.named_parameters() if each.requires_grad}
    assert ("head.weight" in trains) == train_head and "fusion.weight" in trains
    assert not any("embed" in name for name in trains)


def test_in_training_a_batch_gives_the_same_roll_outs_again(llama: LanguageModel) -> None:
    drafter, made = drafter_for(llama, feature_noise=0.1), lesson(llama, 0)
    plain = drafter.training_logits(made.batch, made.teacher)
    drafter.module.train()
    first = drafter.training_logits(made.batch, made.teacher)
    again = drafter.training_logits(made.batch, made.teacher)
    assert torch.equal(first, again), "a continued training must repeat an uninterrupted one"
    assert first.shape == plain.shape and not torch.allclose(first, plain, atol=1e-3)


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_no_roll_out_begins_before_its_text(steps: int) -> None:
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3]]).repeat(50, 1)
    batch = TrainingBatch(
        positions, positions, torch.zeros_like(positions), torch.ones_like(positions).bool()
    )
    depths = choose_depths(batch, steps, torch.Generator().manual_seed(0)).reshape(50, 8)
    assert bool((depths >= 1).all() and (depths <= (positions + 1).clamp(max=steps)).all())
    assert set(depths[:, 3].tolist()) == set(range(1, steps + 1))


def test_the_texts_it_writes_are_its_own(llama: LanguageModel) -> None:
    drafter = trained(llama, vocabulary=40)
    drafter.options = FeatureOptions(vocabulary=40, rollout_steps=1)
    drafter.module.train()
    found = drafter.sample([text(5)], [6], Sampling(), torch.Generator(), ())
    assert drafter.module.training
    drafter.module.eval()
    known = text(5)
    for _ in range(6):
        batch = pad_texts([known], [[0]])
        logits = drafter.training_logits(batch, None)
        known.append(int(drafter.vocabulary[logits[0].argmax()]))
    assert found == [known[5:]]


def test_each_text_it_writes_has_its_own_end(target: LanguageModel) -> None:
    drafter, prompts, counts = trained(target), [text(5), text(1), text(12, 7)], [9, 4, 11]

    def write(end_tokens: Sequence[int] = ()) -> list[list[int]]:
        generator = torch.Generator().manual_seed(4)
        return drafter.sample(prompts, counts, SAMPLED, generator, end_tokens)

    whole = write()
    assert [len(each) for each in whole] == counts and whole == write()
    end = whole[2][4]
    for long, short in zip(whole, write([end]), strict=True):
        assert short == (long[: long.index(end) + 1] if end in long else long)


def test_global_generators_are_left_alone(llama: LanguageModel, tmp_path: Path) -> None:
    made = lesson(llama, 0)
    before = torch.get_rng_state()
    drafter = drafter_for(llama, feature_noise=0.1, vocabulary=40)
    drafter.module.train()
    drafter.training_logits(made.batch, made.teacher)
    drafter.sample([text(4)], [3], SAMPLED, torch.Generator())
    begin(drafter, llama, text(5)).propose([0], [3], noise(1, 3))
    drafter.save(tmp_path)
    Feature.load(tmp_path, llama, FeatureOptions())
    assert torch.equal(before, torch.get_rng_state())
