"""A training run: it teaches, it can be continued, and it depends on its seed alone."""

from __future__ import annotations

import copy
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_aligners.kd import KD, KDOptions
from taskspec_aligners.lora_kd import LoraKD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from torch import Tensor

from taskspec.corpus.answers import StoredAnswer
from taskspec.interfaces import Aligner, AlignmentLoss, DraftCorpus, TeacherSignal
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.training.batches import AlignmentBatch, make_batch
from taskspec.training.earlier import Earlier, save_trained
from taskspec.training.fit import AlignmentReport, fit
from taskspec.training.module import AlignmentModule
from taskspec.training.online_teacher import OnlineTeacher

TRAINER = TrainerConfig(accelerator="cpu", devices="1", precision="32-true")
TOKENS = 480
SAVED_STEP = 10


@pytest.fixture
def target(tiny_llama_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_llama_folder), device="cpu")


def drafter_for(target: LanguageModel) -> CausalLM:
    return CausalLM.build(target, DraftCorpus([], []), CausalLMOptions(layers=1, vocabulary=80))


def answers_of(target: LanguageModel) -> list[StoredAnswer]:
    """Texts of several lengths with the target's view of them."""
    decoder: Any = target.model.get_decoder()  # type: ignore[operator]
    generator = torch.Generator().manual_seed(0)
    answers = []
    for index in range(12):
        prompt = 3 + index % 7
        ids = torch.randint(2, 94, (prompt + 4 + index % 5,), generator=generator)
        with torch.no_grad():
            hidden = decoder(input_ids=ids[None, :-1]).last_hidden_state[0, prompt - 1 :]
            normalizer = target.head(hidden).logsumexp(-1)
        texts = tuple(ids[:prompt].tolist()), tuple(ids[prompt:].tolist())
        answers.append(StoredAnswer(str(index), *texts, True, hidden, normalizer))
    return answers


def train(
    drafter: CausalLM,
    aligner: Aligner,
    target: LanguageModel,
    folder: Path,
    seed: int = 0,
    accumulate: int = 1,
    answers: list[StoredAnswer] | None = None,
) -> AlignmentReport:
    trainer = replace(TRAINER, accumulate_grad_batches=accumulate)
    config = AlignConfig(batch_tokens=32, trainer=trainer)
    answers = answers or answers_of(target)
    return fit(drafter, aligner, answers, target, config, TOKENS, 3e-3, seed, folder)


def trained(target: LanguageModel, aligner: Aligner, folder: Path, **settings: Any) -> CausalLM:
    drafter = drafter_for(target)
    train(drafter, aligner, target, folder, **settings)
    return drafter


def weights(drafter: CausalLM) -> dict[str, Tensor]:
    return drafter.module.state_dict()


def same(one: CausalLM, other: CausalLM) -> bool:
    ours, theirs = weights(one), weights(other)
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def without_signal(answers: list[StoredAnswer]) -> list[StoredAnswer]:
    return [replace(answer, hidden=None, log_normalizer=None) for answer in answers]


def loss_of(drafter: CausalLM, made: AlignmentBatch) -> Tensor:
    assert made.teacher is not None
    logits = drafter.training_logits(made.batch, made.teacher)
    return KD().loss(logits, made.teacher, drafter.vocabulary).loss


@pytest.mark.parametrize("aligner", [KD(), LoraKD()], ids=lambda aligner: aligner.name)
def test_training_lowers_the_loss(target: LanguageModel, tmp_path: Path, aligner: Aligner) -> None:
    made = make_batch(answers_of(target), target.head)
    drafter = drafter_for(target)
    before = loss_of(drafter, made)
    report = train(drafter, aligner, target, tmp_path)
    assert loss_of(drafter, made) < 0.9 * before
    assert report.tokens >= TOKENS and not drafter.module.training


@pytest.mark.parametrize("kind", [KD, LoraKD])
def test_asking_the_target_meanwhile_teaches_what_its_stored_signal_does(
    target: LanguageModel, tmp_path: Path, kind: type[Aligner]
) -> None:
    answers = answers_of(target)
    expected = weights(trained(target, kind(), tmp_path / "stored", answers=answers))
    asked = trained(target, kind(), tmp_path / "asked", answers=without_signal(answers))
    torch.testing.assert_close(weights(asked), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("kind", [KD, LoraKD])
def test_the_target_is_neither_trained_nor_saved_with_the_draft(
    target: LanguageModel, tmp_path: Path, kind: type[Aligner], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, Any] = {}
    real = AlignmentModule.configure_optimizers

    def spy(module: AlignmentModule) -> Any:
        seen["module"], seen["made"] = module, real(module)
        return seen["made"]

    monkeypatch.setattr(AlignmentModule, "configure_optimizers", spy)
    before = copy.deepcopy(target.model.state_dict())
    trained(target, kind(kind.Options(data="student")), tmp_path)
    theirs = {id(p) for p in target.model.parameters()}
    assert not theirs & {id(p) for p in seen["module"].parameters()}
    optimized = [p for group in seen["made"]["optimizer"].param_groups for p in group["params"]]
    assert optimized and not theirs & {id(p) for p in optimized}
    saved = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert len(saved) == len(optimized)
    torch.testing.assert_close(dict(target.model.state_dict()), dict(before), rtol=0, atol=0)
    assert not target.model.training


def test_the_target_is_left_alone_where_its_signal_is_stored(
    target: LanguageModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(OnlineTeacher, "signal", refuse)
    trained(target, KD(), tmp_path / "stored")
    with pytest.raises(AssertionError, match="asked"):
        trained(target, KD(), tmp_path / "none", answers=without_signal(answers_of(target)))
    with pytest.raises(AssertionError, match="asked"):
        trained(target, KD(KDOptions(data="student")), tmp_path / "student")


@pytest.mark.parametrize("data", ["teacher", "student", "mixed"])
def test_batches_are_weighed_where_their_answer_tokens_are_known_beforehand(
    target: LanguageModel, tmp_path: Path, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, float]] = []
    real = AlignmentModule.training_step

    def spy(module: AlignmentModule, batch: AlignmentBatch, number: int) -> Tensor:
        seen.append((module.weighs, batch.weight))
        return real(module, batch, number)

    monkeypatch.setattr(AlignmentModule, "training_step", spy)
    trained(target, KD(KDOptions(data=data)), tmp_path, accumulate=2)
    assert {weighs for weighs, _ in seen} == {data == "teacher"}
    pairs = [sum(weight for _, weight in seen[start : start + 2]) for start in (0, 2)]
    assert pairs == pytest.approx([2, 2])


def test_the_seed_decides_the_weights(target: LanguageModel, tmp_path: Path) -> None:
    first, again, other = (
        trained(target, LoraKD(), tmp_path / str(index), seed=seed)
        for index, seed in enumerate((1, 1, 2))
    )
    assert same(first, again) and not same(first, other)


def test_the_draft_s_own_texts_come_from_the_seed_too(
    target: LanguageModel, tmp_path: Path
) -> None:
    aligner = KD(KDOptions(data="mixed", student_share=1.0))
    drafters = [drafter_for(target) for _ in range(3)]
    state = torch.get_rng_state()
    for index, (drafter, each) in enumerate(zip(drafters, (aligner, aligner, KD()), strict=True)):
        train(drafter, each, target, tmp_path / str(index))
    first, again, plain = drafters
    assert same(first, again) and not same(first, plain)
    assert torch.equal(torch.get_rng_state(), state)


class DrawingKD(KD):
    """Draws at random while training, as dropout does."""

    def loss(self, *arguments: Any) -> AlignmentLoss:
        self.drawn = torch.rand(4)
        return super().loss(*arguments)


def test_randomness_comes_from_the_seed_and_leaves_the_global_generator_alone(
    target: LanguageModel, tmp_path: Path
) -> None:
    aligners = [DrawingKD() for _ in range(3)]
    for index, (aligner, seed) in enumerate(zip(aligners, (1, 1, 2), strict=True)):
        drafter, state = drafter_for(target), torch.get_rng_state()
        train(drafter, aligner, target, tmp_path / str(index), seed)
        assert torch.equal(torch.get_rng_state(), state)
    first, again, other = (aligner.drawn for aligner in aligners)
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize("kind", [KD, LoraKD])
def test_the_target_stays_as_it_is(
    target: LanguageModel, tmp_path: Path, kind: type[Aligner]
) -> None:
    before = copy.deepcopy(target.model.state_dict())
    trained(target, kind(), tmp_path)
    torch.testing.assert_close(dict(target.model.state_dict()), dict(before), rtol=0, atol=0)


def counting(kind: type[Aligner], enough: int = 10**6, **options: Any) -> Any:
    """An aligner that counts its batches and fails after `enough` of them."""

    class Counting(kind):  # type: ignore[misc, valid-type]
        batches = 0

        def loss(
            self, student_logits: Tensor, teacher: TeacherSignal, vocabulary: Tensor | None
        ) -> AlignmentLoss:
            if self.batches == enough:
                raise RuntimeError("power cut")
            self.batches += 1
            result: AlignmentLoss = super().loss(student_logits, teacher, vocabulary)
            return result

    return Counting(kind.Options(**options))


@pytest.mark.parametrize("data", ["teacher", "student", "mixed"])
@pytest.mark.parametrize(("kind", "accumulate"), [(KD, 1), (LoraKD, 1), (KD, 2)])
def test_a_run_cut_off_and_continued_ends_with_the_weights_of_a_whole_one(
    target: LanguageModel, tmp_path: Path, kind: type[Aligner], accumulate: int, data: str
) -> None:
    whole = counting(kind, data=data)
    cut_off = counting(kind, enough=13 * accumulate, data=data)
    expected = trained(target, whole, tmp_path / "whole", accumulate=accumulate)
    with pytest.raises(RuntimeError, match="power cut"):
        trained(target, cut_off, tmp_path / "cut-off", accumulate=accumulate)
    rest = counting(kind, data=data)
    found = trained(target, rest, tmp_path / "cut-off", accumulate=accumulate)
    assert rest.batches == whole.batches - SAVED_STEP * accumulate
    assert same(found, expected)


class InterruptedKD(KD):
    def loss(self, *arguments: Any) -> AlignmentLoss:
        raise KeyboardInterrupt


def test_ctrl_c_reaches_the_caller_and_works_again_afterwards(
    target: LanguageModel, tmp_path: Path
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            trained(target, InterruptedKD(), tmp_path)
        assert signal.getsignal(signal.SIGINT) is handler
    finally:
        signal.signal(signal.SIGINT, handler)


def test_padding_is_inert(tiny_folder: Path) -> None:
    target = load_language_model(str(tiny_folder), device="cpu")
    made = make_batch(answers_of(target), target.head)
    padding = made.batch.segments == -1
    assert padding.any()
    gradients = []
    for filler in (0, 55):
        batch = replace(made.batch, tokens=made.batch.tokens.masked_fill(padding, filler))
        drafter = drafter_for(target)
        loss_of(drafter, replace(made, batch=batch)).backward()
        gradients.append([p.grad for p in drafter.module.parameters()])
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("aligner", [KD(), LoraKD()], ids=["draft", "adapter"])
def test_a_training_goes_on_from_the_weights_of_an_earlier_one(
    target: LanguageModel, aligner: Aligner, tmp_path: Path
) -> None:
    before = trained(target, aligner, tmp_path / "before")
    path = tmp_path / "weights.safetensors"
    save_trained(before, path)
    after = drafter_for(target)
    config, answers = AlignConfig(batch_tokens=32, trainer=TRAINER), answers_of(target)
    earlier = Earlier(TOKENS, path)
    place = tmp_path / "after"
    # At a rate of next to nothing only what was put in is there at the end.
    fit(after, aligner, answers, target, config, 1, 1e-30, 0, place, earlier=earlier)
    assert weights(after).keys() == weights(before).keys()
    for name, value in weights(before).items():
        torch.testing.assert_close(weights(after)[name], value)
