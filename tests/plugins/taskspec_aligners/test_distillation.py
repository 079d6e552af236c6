"""What distillation minimises, and whose texts it learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_aligners.kd import KD, KDOptions
from taskspec_aligners.lora_kd import LoraKD, LoraKDOptions
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions

from taskspec.corpus.answers import StoredAnswer
from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.writing import write_texts
from taskspec.interfaces import Aligner, AlignmentLoss, DraftCorpus, Sampling
from taskspec.models.loading import LanguageModel, load_language_model
from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import check_options
from taskspec.training.batches import make_batch
from taskspec.training.fit import fit
from taskspec.training.losses import forward_kl, reverse_kl
from taskspec.training.objectives import OBJECTIVES
from taskspec.training.online_teacher import OnlineTeacher

BOTH = pytest.mark.parametrize("kind", [KD, LoraKD], ids=lambda kind: kind.name)
OPTIONS = pytest.mark.parametrize("options", [KDOptions, LoraKDOptions])
CONFIG = AlignConfig(
    batch_tokens=256,
    trainer=TrainerConfig(accelerator="cpu", devices="1", precision="32-true"),
)


@pytest.fixture
def target(tiny_llama_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_llama_folder), device="cpu")


def answers_of(target: LanguageModel, count: int, seed: int) -> list[StoredAnswer]:
    """Texts that the target really says, with nothing stored of its view."""
    generator = torch.Generator().manual_seed(seed)
    prompts = torch.randint(2, 94, (count, 4), generator=generator).tolist()
    model = CachedModel(target.model, target.head)
    texts = write_texts(model, None, prompts, [12] * count, Sampling(1.0), generator)
    return [
        StoredAnswer(str(index), tuple(prompt), tuple(text), True)
        for index, (prompt, text) in enumerate(zip(prompts, texts, strict=True))
    ]


def judged(
    target: LanguageModel, drafter: CausalLM, aligner: Aligner, answers: Sequence[StoredAnswer]
) -> AlignmentLoss:
    made = make_batch(answers, target.head)
    signal = OnlineTeacher(target).signal(made.batch, made.tokens)
    with torch.no_grad():
        logits = drafter.training_logits(made.batch, signal)
        return aligner.loss(logits, signal, drafter.vocabulary)


@pytest.mark.parametrize("data", ["teacher", "student"])
@pytest.mark.parametrize("objective", [*OBJECTIVES, {"log-acceptance": 1.0, "cross-entropy": 0.2}])
def test_every_objective_lowers_its_loss_and_raises_alpha_on_held_out_texts(
    target: LanguageModel, tmp_path: Path, objective: Any, data: str
) -> None:
    aligner = KD(KDOptions(objective=objective, data=data))
    options = CausalLMOptions(layers=2, vocabulary=80)
    drafter = CausalLM.build(target, DraftCorpus([], []), options)
    known, held = answers_of(target, 64, seed=0), answers_of(target, 24, seed=1)
    before = judged(target, drafter, aligner, held)
    fit(drafter, aligner, known, target, CONFIG, 3000, 3e-3, 0, tmp_path)
    after = judged(target, drafter, aligner, held)
    assert after.loss < before.loss
    assert after.metrics["alpha"] > before.metrics["alpha"] + 0.01


@BOTH
def test_forward_kl_on_the_target_s_texts_is_what_nobody_has_to_ask_for(
    target: LanguageModel, kind: type[Aligner]
) -> None:
    drafter = CausalLM.build(target, DraftCorpus([], []), CausalLMOptions(layers=1))
    made = make_batch(answers_of(target, 4, seed=0), target.head)
    signal = OnlineTeacher(target).signal(made.batch, made.tokens)
    logits = drafter.training_logits(made.batch, signal).detach()
    log_p = signal.log_probs(None)
    assert torch.equal(kind().loss(logits, signal, None).loss, forward_kl(logits, log_p))
    mixed = kind(kind.Options(objective={"forward-kl": 0.5, "reverse-kl": 2}))
    expected = 0.5 * forward_kl(logits, log_p) + 2 * reverse_kl(logits, log_p)
    torch.testing.assert_close(mixed.loss(logits, signal, None).loss, expected)
    assert kind().student_share(0.0) == kind().student_share(1.0) == 0


@BOTH
def test_the_share_of_own_texts_follows_the_data_asked_for(kind: type[Aligner]) -> None:
    student = kind(kind.Options(data="student"))
    mixed = kind(kind.Options(data="mixed", student_share=0.8))
    assert [student.student_share(at) for at in (0.0, 0.5, 1.0)] == [1, 1, 1]
    assert [mixed.student_share(at) for at in (0.0, 0.5, 1.0)] == pytest.approx([0, 0.4, 0.8])


@OPTIONS
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"objective": "reverse_kl"}, r"^objective .* Did you mean 'reverse-kl'\?"),
        ({"objective": {"tvd++": 0}}, "^objective 'tvd\\+\\+' needs a positive weight"),
        ({"beta": 1.0}, "^beta must be above 0 and below 1"),
        ({"data": "both"}, "^data must be one of teacher, student, mixed, not 'both'"),
        ({"student_share": 0.0}, "^student_share must be above 0 and at most 1"),
        ({"student_share": 1.5}, "^student_share"),
    ],
)
def test_impossible_options_are_refused_by_name(
    options: type, wrong: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        options(**wrong)


@BOTH
def test_all_slips_of_a_recipe_are_found_at_once(kind: type[Aligner]) -> None:
    wrong = {"objective": {"forward": 1.0}, "beta": 2, "data": "all", "student_share": 0.3}
    _, problems = check_options(kind, PluginChoice(kind.name, wrong))
    assert {name for name, _ in problems} == {"objective", "beta", "data"}
    right = {"objective": {"tvd++": 1, "forward-kl": 0.1}, "data": "mixed"}
    converted, problems = check_options(kind, PluginChoice(kind.name, right))
    assert not problems and converted["objective"] == right["objective"]
