"""Training a feature draft on its own roll-outs, and the texts it writes meanwhile."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from taskspec.decoding.cached_model import CachedModel
from taskspec.interfaces import Drafter, Sampling, TrainingBatch
from taskspec.training.batches import Segment, segments_of
from taskspec.training.target_states import TargetStates
from taskspec_drafters.feature_model import FeatureNetwork

_DEPTH_DECAY = 0.8
"""How much rarer each further step of a roll-out is trained, as later drafted tokens count less."""


class TargetReader:
    """Runs the target over what the draft learns from, each text once as long as memory lasts.

    Args:
        model: The target.
        most_bytes: States kept of texts already read; further texts are read anew each time.
    """

    def __init__(self, model: nn.Module, most_bytes: int = 2**30) -> None:
        untyped: Any = model
        self._target = TargetStates(model, untyped.get_output_embeddings())
        self._states: dict[tuple[torch.device, bytes], Tensor] = {}
        self._bytes_left = most_bytes

    def __deepcopy__(self, memo: dict[int, Any]) -> TargetReader:
        """The same one: a copied draft reads the same target."""
        return self

    def read(self, batch: TrainingBatch) -> tuple[Tensor, Tensor]:
        """Final states and embeddings, float [B, T, H] each, of all tokens of a batch.

        States at padding are zero.
        """
        device = batch.tokens.device
        parts = segments_of(batch)
        keys = [(device, _text(batch, part)) for part in parts]
        unread = {
            part.row for part, key in zip(parts, keys, strict=True) if key not in self._states
        }
        new = self._read(batch, sorted(unread))
        embed = self._target.model(device).get_input_embeddings()
        with torch.inference_mode(), torch.autocast(device.type, enabled=False):
            embeddings = embed(batch.tokens)
        # Tensors of inference mode cannot take part in a training step; copies can.
        embeddings = embeddings.clone()
        states = embeddings.new_zeros(embeddings.shape)
        for part, key in zip(parts, keys, strict=True):
            if part.row in new:
                own = new[part.row][part.first : part.end].clone()
            else:
                own = self._states[key]
            states[part.row, part.first : part.end] = own
            self._keep(key, own)
        return states, embeddings

    def _read(self, batch: TrainingBatch, rows: list[int]) -> dict[int, Tensor]:
        """States [T, H] of some rows of a batch."""
        if not rows:
            return {}
        some = TrainingBatch(
            batch.tokens[rows], batch.positions[rows], batch.segments[rows], batch.trained[rows]
        )
        return dict(zip(rows, self._target.read(some), strict=True))

    def _keep(self, key: tuple[torch.device, bytes], states: Tensor) -> None:
        size = states.numel() * states.element_size()
        if key not in self._states and size <= self._bytes_left:
            self._states[key] = states
            self._bytes_left -= size

    def running(self, device: torch.device) -> CachedModel:
        """The target with a cache, all rows empty."""
        return self._target.running(device)


def _text(batch: TrainingBatch, part: Segment) -> bytes:
    """What the states of one text depend on."""
    place = part.row, slice(part.first, part.end)
    both = torch.stack([batch.tokens[place], batch.positions[place]]).cpu()
    return both.numpy().tobytes()


def roll_out(
    network: FeatureNetwork,
    states: Tensor,
    embeddings: Tensor,
    batch: TrainingBatch,
    steps: int,
) -> list[Tensor]:
    """States predicted from the target's, then from predicted ones: training-time test.

    Step s predicts the state of a token as it is when the token is the (s - 1)-th drafted one:
    that many states before it are predictions. EAGLE-3 (arXiv 2503.01840, section 3.2).

    Args:
        network: The network.
        states: float [B, T, H], the target's final states.
        embeddings: float [B, T, H], of the tokens.
        batch: The batch.
        steps: Steps S, at least 1.

    Returns:
        S predictions float [B, T, H]. At the first s - 1 tokens of a text, step s has no meaning.
    """
    from transformers import DynamicCache

    cache = DynamicCache() if steps > 1 else None
    predictions: list[Tensor] = []
    for step in range(1, steps + 1):
        before = _before(states, batch.segments).to(network.dtype)
        mask = _mask(batch.segments, step)
        states = network(before, embeddings.to(network.dtype), mask, batch.positions, cache)
        predictions.append(states)
    return predictions


def _before(states: Tensor, segments: Tensor) -> Tensor:
    """The state before each token, zero before the first one of a segment."""
    first = torch.ones_like(segments, dtype=torch.bool)
    first[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return states.roll(1, dims=1).masked_fill(first[..., None], 0.0)


def _mask(segments: Tensor, step: int) -> Tensor:
    """Keys seen in a step, bool [B, 1, T, step * T].

    The last step - 1 tokens before one's own are seen as the steps between made them, those
    further back as the first step did.
    """
    same = segments[:, :, None] == segments[:, None, :]
    order = torch.arange(segments.shape[1], device=segments.device)
    distance = order[:, None] - order[None, :]
    blocks = [same & (distance >= step - 1)]
    blocks += [same & (distance == step - made) for made in range(2, step + 1)]
    return torch.cat(blocks, dim=-1)[:, None]


def choose_depths(batch: TrainingBatch, steps: int, generator: Generator) -> Tensor:
    """The roll-out step trained at each of the M positions, int64 [M] within 1..steps.

    The loss sees each position once. A random step, each 0.8 times as likely as the one before,
    makes it an unbiased estimate of EAGLE-3's weighted sum over steps.
    """
    likely = _DEPTH_DECAY ** torch.arange(steps)
    positions = batch.positions[batch.trained]
    depths = 1 + torch.multinomial(likely, len(positions), True, generator=generator)
    return depths.to(positions.device).minimum(positions + 1)


def noise_like(states: Tensor, width: float, generator: Generator) -> Tensor:
    """Uniform noise within +-width: EAGLE's data augmentation (arXiv 2401.15077, section 4.2)."""
    uniform = torch.rand(states.shape, generator=generator)
    return ((2 * uniform - 1) * width).to(states)


def batch_generator(batch: TrainingBatch) -> Generator:
    """A generator seeded by a batch's tokens alone.

    So a training that is interrupted and continued draws what it would have drawn.
    """
    return Generator().manual_seed(zlib.crc32(batch.tokens.cpu().numpy().tobytes()))


@torch.inference_mode()
def write_texts(
    drafter: Drafter,
    target: CachedModel,
    prompts: Sequence[Sequence[int]],
    counts: Sequence[int],
    sampling: Sampling,
    generator: Generator,
    end_tokens: Collection[int],
    ahead: int,
) -> list[list[int]]:
    """Let a feature draft continue N prompts as if every token it drafts were accepted.

    Args:
        drafter: The draft, with rows 0..N-1 unused.
        target: Gives the states, every `ahead` tokens; its rows are empty.
        prompts: Token ids, none empty.
        counts: Most tokens to write after each prompt, at least 1.
        sampling: The logits processors.
        generator: The only source of randomness, on the CPU.
        end_tokens: A text ends after the first of these.
        ahead: Tokens drafted on predicted states before the target's are read.
    """
    noise = torch.rand(len(prompts), max(counts), generator=generator)
    texts: list[list[int]] = [[] for _ in prompts]
    for row, prompt in enumerate(prompts):
        states = target.forward([row], torch.tensor([prompt], device=target.device))
        target.rollback(row, len(prompt) - 1)
        drafter.start(row, prompt, sampling, states[0, :-1])
    rows, last = list(range(len(prompts))), [prompt[-1] for prompt in prompts]
    for place in range(0, max(counts), ahead):
        lengths = [min(ahead, counts[row] - place) for row in rows]
        drawn = noise[rows, place : place + ahead]
        drafted = drafter.propose(rows, lengths, drawn).tokens.to(target.device)
        pending = torch.tensor([[last[row]] for row in rows], device=target.device)
        states = target.forward(rows, torch.cat([pending, drafted[:, :-1]], dim=1))
        drafter.commit(rows, drafted, torch.tensor(lengths), states)
        for row, tokens, length in zip(rows, drafted.tolist(), lengths, strict=True):
            ends = (i + 1 for i, token in enumerate(tokens[:length]) if token in end_tokens)
            texts[row] += tokens[: next(ends, length)]
            last[row] = texts[row][-1]
        rows = [r for r in rows if len(texts[r]) < counts[r] and last[r] not in end_tokens]
        if not rows:
            break
    return texts
