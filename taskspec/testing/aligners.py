"""Checks of aligners: the right minimum, the right gradients, a delivery that reloads."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from taskspec.recipe.alignment import AlignConfig, TrainerConfig
from taskspec.testing.check import check, require
from taskspec.testing.toy_draft import (
    ToyDraft,
    packed_together,
    toy_alignment,
    toy_answers,
    toy_draft,
    with_padding,
)
from taskspec.testing.toy_target import toy_target
from taskspec.training.fit import fit
from taskspec.training.packing import answer_tokens, plan_batches

_EIGHTHS = (3, 2, 1, 1, 1, 0)
_SEED = 5
_BATCH_TOKENS, _BATCHES = 48, 8


@dataclass(frozen=True)
class _KnownTeacher:
    """A teacher whose distribution is known: eighths over six tokens.

    Its tokens occur exactly as often as it says them, so that losses on tokens and losses on
    distributions have one minimum.
    """

    tokens: Tensor
    hidden: Tensor
    probs: Tensor

    def log_probs(self, vocabulary: Tensor | None) -> Tensor:
        """The known log p, [M, Vd]."""
        log_p = self.probs.clamp(min=1e-12).log()
        return log_p if vocabulary is None else log_p[:, vocabulary]


def _known_teacher() -> _KnownTeacher:
    tokens = [token for token, count in enumerate(_EIGHTHS) for _ in range(count)]
    probs = torch.tensor(_EIGHTHS, dtype=torch.float32) / 8
    return _KnownTeacher(torch.tensor(tokens), torch.zeros(8, 4), probs.expand(8, -1))


def _fresh(aligner: Any) -> Any:
    return type(aligner)(aligner.options)


@check("aligner")
def check_minimum_where_student_equals_teacher(aligner: Any) -> None:
    """No nearby student has a lower loss than the one that equals the teacher."""
    teacher = _known_teacher()
    best = teacher.log_probs(None)
    lowest = float(_fresh(aligner).loss(best.clone(), teacher, None).loss)
    require(math.isfinite(lowest), "the loss is not finite where student equals teacher")
    generator = torch.Generator().manual_seed(_SEED)
    for spread in (0.1, 0.5, 2.0):
        for _ in range(20):
            step = spread * torch.randn(1, best.shape[1], generator=generator)
            moved = float(_fresh(aligner).loss(best + step, teacher, None).loss)
            require(
                moved >= lowest - 1e-5,
                f"a student that differs from the teacher has loss {moved:.5f}, the "
                f"teacher's own distribution has {lowest:.5f}",
            )


@check("aligner")
def check_descent_reaches_the_teacher(aligner: Any) -> str:
    """Following the gradient brings a student near the teacher, acceptance above 0.9.

    Sampled objectives may need many steps; alpha = sum min(p, q) is judged at the end.
    """
    teacher = _known_teacher()
    logits = torch.zeros(1, 6, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(400):
        optimizer.zero_grad()
        _fresh(aligner).loss(logits.expand(8, -1), teacher, None).loss.backward()
        optimizer.step()
    alpha = float(torch.minimum(logits.detach().softmax(-1)[0], teacher.probs[0]).sum())
    require(alpha > 0.9, f"after 400 steps the acceptance is only {alpha:.2f}")
    return f"alpha {alpha:.3f} after 400 steps"


@check("aligner")
def check_loss_is_finite_at_extremes(aligner: Any) -> None:
    """Certain teachers and certain, wrong students give finite losses and gradients."""
    one_hot = torch.nn.functional.one_hot(torch.tensor([0, 3]), 6).float()
    teacher = _KnownTeacher(torch.tensor([0, 3]), torch.zeros(2, 4), one_hot)
    for scale in (0.0, 30.0, 200.0):
        logits = torch.zeros(2, 6)
        logits[:, 5] = scale
        logits.requires_grad_()
        result = _fresh(aligner).loss(logits, teacher, None)
        result.loss.backward()
        require(bool(torch.isfinite(result.loss)), f"loss {result.loss} at logits of {scale:g}")
        assert logits.grad is not None
        require(bool(torch.isfinite(logits.grad).all()), f"gradient not finite at {scale:g}")


@check("aligner")
def check_trimmed_vocabulary(aligner: Any) -> None:
    """With a trimmed vocabulary p keeps its full mass: the loss is finite and still learnable."""
    teacher = _known_teacher()
    kept = torch.tensor([0, 1, 3])
    logits = torch.zeros(8, 3, requires_grad=True)
    result = _fresh(aligner).loss(logits, teacher, kept)
    result.loss.backward()
    require(bool(torch.isfinite(result.loss)), "the loss is not finite")
    assert logits.grad is not None
    gradient = logits.grad.mean(0)
    require(
        bool(torch.isfinite(gradient).all()) and float(gradient[0]) < 0,
        "the gradient does not raise the token that the teacher says most",
    )


@check("aligner")
def check_loss_is_a_mean_over_positions(aligner: Any) -> None:
    """The loss of two equal halves is the loss of the whole, so that processes can share it."""
    draft, made = _prepared(aligner)
    whole = _loss(draft, made)
    halves = [_loss(draft, toy_alignment(2, start)) for start in (0, 2)]
    weights = [int(toy_alignment(2, start).batch.trained.sum()) for start in (0, 2)]
    mean = sum(w * h for w, h in zip(weights, halves, strict=True)) / sum(weights)
    require(
        abs(mean - whole) < 1e-4 * max(1.0, abs(whole)),
        f"two halves have a mean loss of {mean:.6f}, the whole has {whole:.6f}",
    )


@check("aligner")
def check_masked_positions_are_inert(aligner: Any) -> None:
    """Padding and packing change neither loss nor gradient."""
    losses, gradients = [], []
    for form in (lambda made: made, with_padding, packed_together):
        draft, made = _prepared(aligner)
        result = draft.aligner.loss(
            draft.draft.training_logits(form(made).batch, made.teacher), made.teacher, None
        )
        result.loss.backward()
        losses.append(float(result.loss.detach()))
        flat = [p.grad.flatten() for p in draft.module.parameters() if p.grad is not None]
        gradients.append(torch.cat(flat))
    for loss, gradient in zip(losses[1:], gradients[1:], strict=True):
        require(abs(loss - losses[0]) < 1e-4, f"the loss moves from {losses[0]} to {loss}")
        require(torch.allclose(gradient, gradients[0], atol=1e-3), "the gradient changes")


@check("aligner")
def check_gradients_only_where_promised(aligner: Any) -> None:
    """Parameters marked as training get gradients, all others and the target get none."""
    prepared, made = _prepared(aligner)
    named = dict(prepared.module.named_parameters())
    training = {name for name, parameter in named.items() if parameter.requires_grad}
    require(training, "`prepare` marks nothing as training")
    logits = prepared.draft.training_logits(made.batch, made.teacher)
    prepared.aligner.loss(logits, made.teacher, None).loss.backward()
    moved = {name for name, parameter in named.items() if parameter.grad is not None}
    require(moved <= training, f"frozen parameters got gradients: {sorted(moved - training)[:3]}")
    require(moved, "no parameter got a gradient")
    require(
        all(parameter.grad is None for parameter in toy_target().model.parameters()),
        "the target got gradients",
    )
    if type(aligner).adapts:
        total = sum(parameter.numel() for parameter in named.values())
        share = sum(named[name].numel() for name in training) / total
        require(share < 0.9, f"an adapter trains {share:.0%} of the parameters")


@check("aligner")
def check_prepare_is_seeded(aligner: Any) -> None:
    """Equal seeds prepare equal weights, and the draft's own distribution is not changed."""
    one, made = _prepared(aligner)
    two, _ = _prepared(aligner)
    for first, second in zip(one.module.parameters(), two.module.parameters(), strict=True):
        require(torch.equal(first, second), "equal seeds give different initial weights")
    fresh = toy_draft()
    with torch.no_grad():
        before = fresh.training_logits(made.batch, made.teacher)
        after = one.draft.training_logits(made.batch, made.teacher)
    require(torch.allclose(before, after, atol=1e-4), "`prepare` changes what the draft says")


@check("aligner")
def check_export_reloads_with_equal_logits(aligner: Any) -> None:
    """What training made is what the exported folder holds."""
    prepared, made = _prepared(aligner)
    with tempfile.TemporaryDirectory() as place:
        base, out = Path(place) / "base", Path(place) / "out"
        base.mkdir()
        out.mkdir()
        toy_draft().save(base)
        _few_steps(prepared, made)
        with torch.no_grad():
            expected = prepared.draft.training_logits(made.batch, made.teacher)
        prepared.aligner.export(prepared.draft, out)
        require(any(out.iterdir()), "`export` wrote nothing")
        pickles = [path.name for path in out.rglob("*.bin")] + [p.name for p in out.rglob("*.pt")]
        require(not pickles, f"`export` wrote {pickles}; write safetensors")
        if type(aligner).adapts:
            loaded = ToyDraft.load(base, toy_target(), None)
            loaded.add_adapter("task", out)
        else:
            loaded = ToyDraft.load(out, toy_target(), None)
        with torch.no_grad():
            found = loaded.training_logits(made.batch, made.teacher)
    gap = float((expected - found).abs().max())
    require(gap < 1e-3, f"the exported draft's logits differ by up to {gap:.3g}")


@check("aligner")
def check_training_lowers_the_loss(aligner: Any) -> str:
    """A few steps on one batch lower its loss."""
    prepared, made = _prepared(aligner)
    before = _loss(prepared, made)
    _few_steps(prepared, made, steps=15)
    after = _loss(prepared, made)
    require(after < before, f"the loss goes from {before:.4f} to {after:.4f}")
    return f"loss {before:.3f} -> {after:.3f} in 15 steps"


@check("aligner")
def check_two_processes_train_as_one(aligner: Any) -> str:
    """Two CPU processes (DDP, gloo) reach the loss of one with the same global batch."""
    losses = []
    for devices, accumulate in (("1", _BATCHES // 2), ("2", _BATCHES // 4)):
        draft = toy_draft()
        with tempfile.TemporaryDirectory() as place:
            fit(
                draft,
                _fresh(aligner),
                toy_answers(),
                toy_target(),
                _align_config(devices, accumulate),
                tokens=_whole_batches(),
                learning_rate=1e-2,
                seed=_SEED,
                folder=Path(place),
            )
        losses.append(_loss(_Prepared(_fresh(aligner), draft, draft.module), toy_alignment()))
    one, two = losses
    require(
        abs(one - two) < 2e-3 * max(1.0, abs(one)),
        f"one process ends with loss {one:.5f}, two with {two:.5f}; the loss of a batch must be "
        "the mean over its positions and depend on nothing else",
    )
    return f"loss {one:.5f} by one process, {two:.5f} by two"


def _whole_batches() -> int:
    """A budget of tokens that fills as many batches as both runs can share out evenly."""
    plan = plan_batches(toy_answers(), _BATCH_TOKENS, 10_000, _SEED)[:_BATCHES]
    return sum(answer_tokens(toy_answers(), rows) for rows in plan)


def _align_config(devices: str, accumulate: int) -> AlignConfig:
    trainer = TrainerConfig(
        accelerator="cpu",
        devices=devices,
        precision="32-true",
        accumulate_grad_batches=accumulate,
    )
    return AlignConfig(batch_tokens=_BATCH_TOKENS, warmup=0.0, trainer=trainer)


@dataclass(frozen=True)
class _Prepared:
    """A draft that an aligner made ready, and what trains."""

    aligner: Any
    draft: ToyDraft
    module: torch.nn.Module


def _prepared(aligner: Any) -> tuple[_Prepared, Any]:
    fresh, draft = _fresh(aligner), toy_draft()
    module = fresh.prepare(draft, _SEED)
    return _Prepared(fresh, draft, module), toy_alignment()


def _loss(prepared: _Prepared, made: Any) -> float:
    logits = prepared.draft.training_logits(made.batch, made.teacher)
    return float(prepared.aligner.loss(logits, made.teacher, None).loss.detach())


def _few_steps(prepared: _Prepared, made: Any, steps: int = 3) -> None:
    training = [p for p in prepared.module.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(training, lr=1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        logits = prepared.draft.training_logits(made.batch, made.teacher)
        prepared.aligner.loss(logits, made.teacher, None).loss.backward()
        optimizer.step()
