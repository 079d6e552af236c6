"""Loss over a large vocabulary without the logits of a whole batch.

The logits of B x T positions and V tokens are the largest tensor of a training step by far.
Here the head, the loss and their gradients are computed for some positions at a time; what stays
is the gradient for the states and for the head. Nothing is computed twice, as it would be with
checkpoints: the gradient is taken at once, in the forward pass, and scaled in the backward pass.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.interfaces import Aligner, AlignmentLoss, TeacherSignal


def alignment_loss(
    states: Tensor,
    head: nn.Module,
    aligner: Aligner,
    teacher: TeacherSignal,
    vocabulary: Tensor | None,
    width: int,
    most_logits: int,
) -> AlignmentLoss:
    """An aligner's loss at M positions, holding the logits of some of them at a time.

    A loss is a mean over positions, so the parts' mean weighted by their sizes is the whole's;
    statistics that a loss takes of its positions (TVD++'s deviation) are then those of a part.

    Args:
        states: float [M, D], with gradients.
        head: Turns states into logits, row by row.
        aligner: The loss.
        teacher: The target's view of the M positions.
        vocabulary: int64 [Vd] target ids of the columns of the logits; None for all.
        width: Vd, columns of the logits.
        most_logits: Logits to hold at a time, positions times vocabulary; 0 for all.
    """
    positions = states.shape[0]
    parts = position_parts(positions, width, most_logits)
    if len(parts) == 1:
        return aligner.loss(head(states), teacher, vocabulary)
    metrics: dict[str, Tensor] = {}

    def part_loss(own: Tensor, place: slice) -> Tensor:
        result = aligner.loss(head(own), teacher.part(place), vocabulary)
        share = (place.stop - place.start) / positions
        for name, value in result.metrics.items():
            metrics[name] = metrics.get(name, value.new_zeros(())) + share * value
        weighted: Tensor = share * result.loss
        return weighted

    trained = [parameter for parameter in head.parameters() if parameter.requires_grad]
    sum_of_parts: Any = _InParts.apply
    loss: Tensor = sum_of_parts(part_loss, parts, states, *trained)
    return AlignmentLoss(loss, metrics)


def position_parts(positions: int, width: int, most_logits: int) -> list[slice]:
    """Positions cut into even parts, each with at most so many logits of this width.

    Even, because a small last part would have statistics of its own.
    """
    size = max(1, most_logits // width) if most_logits else positions
    count = max(1, -(-positions // size))
    bounds = [positions * part // count for part in range(count + 1)]
    return [slice(first, end) for first, end in zip(bounds[:-1], bounds[1:], strict=True)]


class _InParts(torch.autograd.Function):
    """Sum of part losses whose gradients are taken part by part."""

    @staticmethod
    def forward(
        ctx: Any,
        part_loss: Callable[[Tensor, slice], Tensor],
        parts: list[slice],
        states: Tensor,
        *trained: Tensor,
    ) -> Tensor:
        """The loss; keeps the gradients for states and trained parameters."""
        total = states.new_zeros((), dtype=torch.float32)
        of_states = torch.empty_like(states)
        of_trained: list[Tensor | None] = [None] * len(trained)
        # Autocast would keep a rounded weight, with the graph of the part it was rounded in.
        autocast = torch.autocast(
            states.device.type,
            dtype=torch.get_autocast_dtype(states.device.type),
            enabled=torch.is_autocast_enabled(states.device.type),
            cache_enabled=False,
        )
        for place in parts:
            own = states[place].detach().requires_grad_()
            with torch.enable_grad(), autocast:
                loss = part_loss(own, place)
            first, *rest = torch.autograd.grad(loss, [own, *trained], allow_unused=True)
            total += loss.detach()
            of_states[place] = 0 if first is None else first
            for number, gradient in enumerate(rest):
                known = of_trained[number]
                of_trained[number] = gradient if known is None else known.add_(gradient)
        ctx.gradients = [of_states, *of_trained]
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        """The gradients kept, times the gradient of the loss; in place, so only once."""
        gradients, ctx.gradients = ctx.gradients, None
        scaled = [None if each is None else each.mul_(outer[0].to(each)) for each in gradients]
        return None, None, *scaled
