"""A feature draft goes on from the target's own states, and learns to go on from its own."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from scipy.stats import chisquare
from taskspec_aligners.kd import KD
from taskspec_aligners.lora_kd import LoraKD, LoraKDOptions
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_drafters.feature_training import TargetReader, choose_depths, roll_out
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from torch import Tensor
from transformers import MistralConfig

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.engine import Engine
from taskspec.decoding.fixed_shape import SWITCH
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.sampling import probabilities, sample
from taskspec.errors import DecodingError, ModelError
from taskspec.interfaces import DraftCorpus, Proposal, Sampling, TrainingBatch
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.training.batches import AlignmentBatch, make_batch, pad_texts
from taskspec.training.losses import acceptance, forward_kl

SAMPLED = Sampling(1.0)


def text(length: int, first: int = 3) -> list[int]:
    return [2 + (first + 11 * index * index) % 92 for index in range(length)]


def noise(rows: int, k: int, seed: int = 0) -> Tensor:
    return torch.rand(rows, k, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def target(tiny_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_folder), device="cpu")


@pytest.fixture
def llama(tiny_llama_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_llama_folder), device="cpu")


@lru_cache
def answers_of(folder: str) -> tuple[StoredAnswer, ...]:
    """Answers sampled from the target, with its view of every token."""
    target = load_language_model(folder, device="cpu")
    requests = [
        Request(str(i), tuple(text(4 + i % 9, i)), 24, SAMPLED, seed=i, ignore_eos=True)
        for i in range(48)
    ]
    made = Engine(target, Rejection(), keep_hidden=True).generate(requests, 48)
    return tuple(
        StoredAnswer(one.id, asked.prompt, one.tokens, True, one.hidden, one.log_normalizer)
        for asked, one in zip(requests, made, strict=True)
    )


@lru_cache
def head_of(folder: str) -> Any:
    """The target's head in the dtype of the stored states, whatever the target runs in."""
    return load_language_model(folder, device="cpu").head


def drafter_for(target: LanguageModel, **options: Any) -> Feature:
    corpus = DraftCorpus([], [answer.answer_ids for answer in answers_of(target.source)])
    return Feature.build(target, corpus, FeatureOptions(**options))


def lesson(target: LanguageModel, first: int, count: int = 8) -> AlignmentBatch:
    return make_batch(answers_of(target.source)[first : first + count], head_of(target.source))


def train(target: LanguageModel, drafter: Feature, steps: int) -> None:
    """Learn from the first 40 answers by plain distillation."""
    drafter.module.requires_grad_(True).train()
    parameters = [each for each in drafter.module.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=3e-3)
    for step in range(steps):
        made = lesson(target, 8 * (step % 5))
        logits = drafter.training_logits(made.batch, made.teacher)
        loss = forward_kl(logits, made.teacher.log_probs(drafter.vocabulary))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    drafter.module.requires_grad_(False).eval()


@lru_cache
def trained_module(folder: str, vocabulary: int, steps: int) -> Any:
    target = load_language_model(folder, device="cpu")
    drafter = drafter_for(target, vocabulary=vocabulary)
    train(target, drafter, steps)
    return drafter.module


def trained(target: LanguageModel, vocabulary: int = 0, steps: int = 100) -> Feature:
    """A drafter that has learnt enough to be accepted at times; its module must not change."""
    drafter = drafter_for(target, vocabulary=vocabulary)
    drafter.module = trained_module(target.source, vocabulary, steps)
    return drafter


@torch.inference_mode()
def states(target: LanguageModel, tokens: Sequence[int]) -> Tensor:
    decoder: Any = target.model
    found: Tensor = decoder.get_decoder()(torch.tensor([tokens]), use_cache=False)[0][0]
    return found


def begin(
    drafter: Feature,
    target: LanguageModel,
    tokens: Sequence[int],
    sampling: Sampling = SAMPLED,
    row: int = 0,
    adapter: str | None = None,
) -> Feature:
    drafter.start(row, tokens, sampling, states(target, tokens)[:-1], adapter)
    return drafter


def commit(
    drafter: Feature,
    target: LanguageModel,
    rows: Sequence[int],
    texts: Sequence[Sequence[int]],
    emitted: Sequence[Sequence[int]],
) -> None:
    """As the engine does: padded tokens, and the target's state at each token's predecessor."""
    width = max(map(len, emitted)) + 1
    tokens = torch.zeros(len(rows), width, dtype=torch.int64)
    hidden = torch.full((len(rows), width, target.hidden_size), 9.0)
    for index, (known, new) in enumerate(zip(texts, emitted, strict=True)):
        tokens[index, : len(new)] = torch.tensor(new)
        hidden[index, : len(new)] = states(target, [*known, *new])[len(known) - 1 : -1]
    drafter.commit(rows, tokens, torch.tensor([len(new) for new in emitted]), hidden)


def proposed(proposal: Proposal, row: int = 0) -> list[int]:
    return proposal.tokens[row, : int(proposal.lengths[row])].tolist()


def check_same(one: Proposal, other: Proposal, row: int = 0) -> None:
    """The first one's only row is a row of the other, tokens and distributions."""
    tokens = proposed(one)
    assert tokens and tokens == proposed(other, row)
    assert one.probs is not None and other.probs is not None
    torch.testing.assert_close(
        one.probs[0, : len(tokens)], other.probs[row, : len(tokens)], rtol=0, atol=1e-5
    )


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
                check_same(alone.propose([0], [k[index]], drawn), together, index)
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
    check_same(begin(trained(target), target, prompt).propose([0], [3], noise(3, 3)[1:2]), found, 1)


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
