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


_RAISED = 2**10
"""What a part's mean loss is multiplied by where gradients are in float16: small ones, of which
there are as many as logits, would be zero there, and larger ones than 65,504 infinite."""


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
        """The loss; keeps the gradients for states and trained parameters.

        A gradient scaler raises the loss in the backward pass only, and the gradients are taken
        here; so they are raised here, too, and lowered by as much in float32.
        """
        total = states.new_zeros((), dtype=torch.float32)
        wide = torch.promote_types(states.dtype, torch.float32)
        of_states = torch.empty_like(states, dtype=wide)
        of_trained: list[Tensor | None] = [None] * len(trained)
        device = states.device.type
        rounded = torch.is_autocast_enabled(device)
        dtype = torch.get_autocast_dtype(device)
        # Autocast would keep a rounded weight, with the graph of the part it was rounded in.
        autocast = torch.autocast(device, dtype=dtype, enabled=rounded, cache_enabled=False)
        raised = 1
        if rounded and dtype is torch.float16:
            # Parts are even, so this power of two makes up for a part's share of the whole.
            raised = _RAISED * 2 ** (len(parts) - 1).bit_length()
        for place in parts:
            own = states[place].detach().requires_grad_()
            with torch.enable_grad(), autocast:
                loss = part_loss(own, place)
                high = raised * loss
            first, *rest = torch.autograd.grad(high, [own, *trained], allow_unused=True)
            total += loss.detach()
            of_states[place] = 0 if first is None else first
            for number, gradient in enumerate(rest):
                known = of_trained[number]
                of_trained[number] = gradient if known is None else known.add_(gradient)
        ctx.gradients, ctx.raised, ctx.dtype = [of_states, *of_trained], raised, states.dtype
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        """The gradients kept, times the gradient of the loss; in place, so only once."""
        (of_states, *rest), ctx.gradients = ctx.gradients, None
        factor = outer[0] / ctx.raised
        of_trained = [None if each is None else each.mul_(factor.to(each)) for each in rest]
        return None, None, of_states.mul_(factor.to(of_states)).to(ctx.dtype), *of_trained
