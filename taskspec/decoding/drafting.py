"""One step's proposals of a batch whose rows may use different drafters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taskspec.decoding.row import Row
from taskspec.errors import PluginError
from taskspec.interfaces import Drafter, Proposal, Target


@dataclass(frozen=True)
class Drafts:
    """Proposals of B rows, padded to the longest.

    Attributes:
        tokens: int64 [B, K].
        lengths: int64 [B].
        probs: float32 [B, K, V] over the whole vocabulary; None when every row's proposal is
            deterministic.
        verify_noise: float32 [B, K+1]; a row with l drafted tokens has its noise in the first l
            columns and in the last.
    """

    tokens: Tensor
    lengths: Tensor
    probs: Tensor | None
    verify_noise: Tensor

    def commit(
        self,
        rows: Sequence[Row],
        drafters: Mapping[str, Drafter],
        emitted: Sequence[int],
        hidden: Tensor | None,
    ) -> None:
        """Tell each drafter what was emitted for its unfinished rows."""
        for name, indices in _by_drafter(rows).items():
            counts = torch.tensor([emitted[index] for index in indices])
            tokens = torch.zeros(len(indices), int(counts.max()), dtype=torch.int64)
            for place, index in enumerate(indices):
                tokens[place, : emitted[index]] = torch.tensor(
                    rows[index].tokens[-emitted[index] :]
                )
            drafters[name].commit(
                [rows[index].slot for index in indices],
                tokens,
                counts,
                hidden[indices] if hidden is not None and drafters[name].hidden_layers else None,
            )


def draft_batch(
    rows: Sequence[Row],
    drafters: Mapping[str, Drafter],
    target: Target,
    wanted: Sequence[int],
) -> Drafts:
    """Let each row's drafter propose as many tokens as are wanted, at most.

    A drafter that has not started on a row starts when it is to draft for it.

    Args:
        rows: The rows.
        drafters: The pool.
        target: Whose tokens these are.
        wanted: Tokens for each row; 0 for rows without a drafter.
    """
    if not any(wanted):
        noise = torch.stack([row.noise(1) for row in rows]).to(target.device)
        none = torch.zeros(len(rows), 0, dtype=torch.int64, device=target.device)
        return Drafts(none, none.new_zeros(len(rows)), None, noise)
    for row, count in zip(rows, wanted, strict=True):
        if count and not row.drafting:
            row.start(drafters)
    draft_noise = [row.noise(count) for row, count in zip(rows, wanted, strict=True)]
    proposals = {
        name: (indices, _propose(drafters[name], target, rows, indices, wanted, draft_noise))
        for name, indices in _by_drafter(rows).items()
        if any(wanted[index] for index in indices)
    }
    width = max((proposal.tokens.shape[1] for _, proposal in proposals.values()), default=0)
    lengths = torch.zeros(len(rows), dtype=torch.int64, device=target.device)
    tokens = torch.zeros(len(rows), width, dtype=torch.int64, device=target.device)
    for indices, proposal in proposals.values():
        lengths[indices] = proposal.lengths.to(target.device)
        tokens[indices, : proposal.tokens.shape[1]] = proposal.tokens.to(target.device)
    width = int(lengths.max()) if len(rows) else 0
    # Padding is the drafter's own: it may be no token at all.
    drafted = torch.arange(width, device=target.device) < lengths[:, None]
    tokens = torch.where(drafted, tokens[:, :width], 0)
    noise = torch.zeros(len(rows), width + 1)
    for index, (row, length) in enumerate(zip(rows, lengths.tolist(), strict=True)):
        row_noise = row.noise(length + 1)
        noise[index, :length], noise[index, -1] = row_noise[:length], row_noise[-1]
    probs = None
    if any(proposal.probs is not None for _, proposal in proposals.values()):
        probs = _full_probs(list(proposals.values()), tokens, target.vocabulary_size)
    return Drafts(tokens, lengths, probs, noise.to(target.device))


def _by_drafter(rows: Sequence[Row]) -> dict[str, list[int]]:
    """Indices of the unfinished rows that each drafter has started on."""
    groups: dict[str, list[int]] = {}
    for index, row in enumerate(rows):
        if row.choice is not None and row.drafting and row.finish is None:
            groups.setdefault(row.choice.draft, []).append(index)
    return groups


def _propose(
    drafter: Drafter,
    target: Target,
    rows: Sequence[Row],
    indices: Sequence[int],
    wanted: Sequence[int],
    draft_noise: Sequence[Tensor],
) -> Proposal:
    lengths = [wanted[index] for index in indices]
    noise = torch.zeros(len(indices), max(lengths))
    for place, index in enumerate(indices):
        noise[place, : wanted[index]] = draft_noise[index]
    proposal = drafter.propose([rows[index].slot for index in indices], lengths, noise)
    made: list[int] = proposal.lengths.tolist()
    if any(length > most for length, most in zip(made, lengths, strict=True)):
        raise PluginError(
            f"drafter '{drafter.name}' proposed more tokens than asked for; "
            "Proposal.lengths must not exceed k"
        )
    # Tokens that are on a device are not waited for.
    known = proposal.tokens.tolist() if proposal.tokens.device.type == "cpu" else []
    ids = [token for own, length in zip(known, made, strict=False) for token in own[:length]]
    if ids and not 0 <= min(ids) <= max(ids) < target.vocabulary_size:
        raise PluginError(
            f"drafter '{drafter.name}' proposed ids from {min(ids)} to {max(ids)}, but the target "
            f"knows 0 to {target.vocabulary_size - 1}; propose the target's ids only"
        )
    return proposal


def _full_probs(
    proposals: Sequence[tuple[list[int], Proposal]], tokens: Tensor, vocabulary_size: int
) -> Tensor:
    """Spread every row's draft distribution over the whole target vocabulary: [B, K, V]."""
    rows, width = tokens.shape
    probs = torch.zeros(rows, width, vocabulary_size, device=tokens.device)
    for indices, proposal in proposals:
        reach = min(width, proposal.tokens.shape[1])
        if proposal.probs is None:
            one_hot = tokens[indices, :reach, None]
            probs[indices, :reach] = torch.zeros(
                len(indices), reach, vocabulary_size, device=tokens.device
            ).scatter_(-1, one_hot, 1.0)
            continue
        given = proposal.probs[:, :reach].float().to(tokens.device)
        if proposal.vocabulary is None:
            spread = torch.nn.functional.pad(given, (0, vocabulary_size - given.shape[-1]))
        else:
            spread = torch.zeros(len(indices), reach, vocabulary_size, device=tokens.device)
            spread[..., proposal.vocabulary.to(tokens.device)] = given
        probs[indices, :reach] = spread
    return probs
