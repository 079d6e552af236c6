"""Passes of fixed shape over a row cache, replayed as CUDA graphs.

A small model's pass is hundreds of short kernels, and launching them one by one takes longer than
running them. A graph launches them together, but only with shapes and addresses of its capture: so
passes run over the first 1, 2, 4, ... rows, with keys up to a bound, and inputs are copied into
buffers. Rows that have no part write behind their valid length, where nothing attends before it is
written again.
"""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from taskspec.decoding.at_once import Drafted
from taskspec.decoding.row_cache import RowCache, Window

SWITCH = "TASKSPEC_GRAPHS"
"""Environment variable: 0 keeps graphs off, 1 asks for fixed shapes on a CPU, too."""
MOST_TOKENS = 32
"""Longer passes, which read prompts, are not launched often enough to matter."""
_EXACT_TOKENS = 16
"""Longer passes, which read the ends of prompts or verify long drafts, share one shape."""
_SHORTEST = 256
_TOLERANCE = 0.05

States = Callable[[Window, Tensor], Tensor]
"""Runs the decoder on embeddings [B, T, H] at a window; states [B, T, ...]."""
Inputs = Callable[[Tensor, Tensor], Tensor]
"""From the states before tokens [B, T, H] and their ids [B, T] to what the decoder reads."""


def wants_fixed_shapes(device: torch.device) -> bool:
    """Whether passes on a device should have fixed shapes."""
    return os.environ.get(SWITCH, "1" if device.type == "cuda" else "0") == "1"


@dataclass
class _Replay:
    """A computation at fixed addresses.

    Attributes:
        inputs: Buffers that it reads.
        compute: Runs it.
        graph: Its capture; None where it is computed each time.
        outputs: What the capture writes.
    """

    inputs: tuple[Tensor, ...]
    compute: Callable[[], tuple[Tensor, ...]]
    graph: torch.cuda.CUDAGraph | None = None
    outputs: tuple[Tensor, ...] = ()


class FixedPasses:
    """Runs one decoder over one cache in fixed shapes.

    Args:
        cache: The rows' keys and values.
        device: Where they are.
        width: H.
        dtype: Of embeddings.
    """

    def __init__(
        self, cache: RowCache, device: torch.device, width: int, dtype: torch.dtype
    ) -> None:
        self.cache, self.device, self.width, self.dtype = cache, device, width, dtype
        self._captures = device.type == "cuda"
        self._replays: dict[tuple[Any, ...], _Replay] = {}
        self._room = (0, 0)

    def append(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        key: Any,
        states: States,
    ) -> Tensor:
        """Run a decoder over tokens that come after each row's valid length.

        Args:
            rows: B row numbers.
            embeddings: [B, T, H]; row b's first counts[b] are real; T is at most MOST_TOKENS.
            counts: At least 1 each.
            key: Names `states`; the same name means the same computation.
            states: The decoder.

        Returns:
            What `states` gives for these rows, [B, T, ...].
        """
        given_tokens = embeddings.shape[1]
        tokens = given_tokens if given_tokens <= _EXACT_TOKENS else MOST_TOKENS
        if tokens > given_tokens:
            embeddings = functional.pad(embeddings, (0, 0, 0, tokens - given_tokens))
        count, end = self._bounds(rows, tokens)
        index = torch.arange(count, device=self.device)[:, None]
        places = torch.arange(tokens, device=self.device)

        def make() -> _Replay:
            numbers, given = self._numbers(count), self._embeddings(count, tokens)
            starts, _, last = numbers[..., None]

            def compute() -> tuple[Tensor, ...]:
                window = Window(tuple(range(count)), index, starts + places, end, True, last)
                return (states(window, given),)

            return _Replay((numbers, given), compute)

        replay = self._replay(("append", key, count, tokens, end), make)
        self._fill(replay, rows, embeddings, counts, [1] * len(rows))
        return self._run(replay)[0][list(rows), :given_tokens]

    def draft(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        steps: Sequence[int],
        states: States,
        choose: Callable[[Tensor], tuple[Tensor, Tensor]],
        inputs: Inputs,
    ) -> tuple[Tensor, Tensor]:
        """Append tokens to rows, then go on with the tokens that are chosen: one computation.

        Args:
            rows: B row numbers.
            embeddings: [B, T, H]; row b's first counts[b] are real.
            counts: At least 1 each.
            steps: Tokens wanted of each row, at least 1; all rows get as many as the most.
            states: The decoder; gives [B, T, H].
            choose: From states [B, H] to token ids [B] and their probabilities [B].
            inputs: What the decoder reads of a chosen token.

        Returns:
            Tokens int64 [B, max steps] and the probabilities they had, float32 likewise.
        """
        tokens, most = embeddings.shape[1], max(steps)
        count, end = self._bounds(rows, tokens + most)
        index = torch.arange(count, device=self.device)[:, None]
        every, places = tuple(range(count)), torch.arange(tokens, device=self.device)

        def make() -> _Replay:
            numbers, given = self._numbers(count), self._embeddings(count, tokens)
            starts, real, last = numbers[..., None]

            def compute() -> tuple[Tensor, ...]:
                window = Window(every, index, starts + places, end, True, last)
                state = states(window, given)[index[:, 0], real[:, 0] - 1]
                chosen = [choose(state)]
                for step in range(most - 1):
                    window = Window(every, index, starts + real + step, end, True, last)
                    state = states(window, inputs(state[:, None], chosen[-1][0][:, None]))[:, 0]
                    chosen.append(choose(state))
                ids, chances = zip(*chosen, strict=True)
                return torch.stack(ids, dim=1), torch.stack(chances, dim=1)

            return _Replay((numbers, given), compute)

        replay = self._replay(("draft", count, tokens, end, most), make)
        self._fill(replay, rows, embeddings, counts, steps)
        ids, chances = self._run(replay)
        return ids[list(rows)], chances[list(rows)]

    def _bounds(self, rows: Sequence[int], tokens: int) -> tuple[int, int]:
        """Rows and keys of the pass, with room made for both."""
        count, end = 1, _SHORTEST
        while count <= max(rows):
            count *= 2
        self.cache.reserve(count, 0)
        while end < max(self.cache.lengths[row] for row in rows) + tokens:
            end *= 2
        self.cache.reserve(0, max(end, max(self.cache.lengths[:count]) + tokens))
        room = (self.cache.row_layers[0].rows, self.cache.row_layers[0].length)
        if room != self._room:
            # The cache has moved, and captures write to where it was.
            self._replays.clear()
            self._room = room
        return count, end

    def _numbers(self, count: int) -> Tensor:
        """Room for what `_fill` says of so many rows."""
        return torch.ones(3, count, dtype=torch.int64, device=self.device)

    def _embeddings(self, count: int, tokens: int) -> Tensor:
        return torch.zeros(count, tokens, self.width, dtype=self.dtype, device=self.device)

    def _replay(self, key: tuple[Any, ...], make: Callable[[], _Replay]) -> _Replay:
        if key not in self._replays:
            self._replays[key] = make()
        return self._replays[key]

    def _fill(
        self,
        replay: _Replay,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        steps: Sequence[int],
    ) -> None:
        """Copy a pass's embeddings and, per row, its start, its real tokens and its last position.

        The last token that a row wants is not read any more; a row without a part reads none.
        """
        numbers, given = replay.inputs
        starts = self.cache.lengths[: len(given)]
        real, last = [1] * len(given), [max(0, start - 1) for start in starts]
        for row, own, wanted in zip(rows, counts, steps, strict=True):
            real[row], last[row] = own, starts[row] + own + wanted - 2
        numbers.copy_(torch.tensor([starts, real, last]))
        if list(rows) == list(range(len(given))):
            given.copy_(embeddings)
        else:
            given[list(rows)] = embeddings

    def _run(self, replay: _Replay) -> tuple[Tensor, ...]:
        """What the replay gives for what its buffers hold."""
        if not self._captures:
            return replay.compute()
        with torch.cuda.device(self.device):
            if replay.graph is None:
                self._capture(replay)
                if replay.graph is None:
                    return replay.compute()
            replay.graph.replay()
            return tuple(each.clone() for each in replay.outputs)

    def _capture(self, replay: _Replay) -> None:
        """Capture a computation, unless it cannot be or gives something else when replayed."""
        try:
            cuda: Any = torch.cuda
            stream, current = cuda.Stream(), cuda.current_stream()
            stream.wait_stream(current)
            with cuda.stream(stream):
                replay.compute()
                expected = replay.compute()
            current.wait_stream(stream)
            graph = cuda.CUDAGraph()
            with _keeping_garbage(), cuda.graph(graph):
                outputs = replay.compute()
            for each in outputs:
                each.zero_()
            graph.replay()
        except RuntimeError as error:
            self._give_up(str(error).splitlines()[0])
            return
        if all(_alike(*pair) for pair in zip(outputs, expected, strict=True)):
            replay.graph, replay.outputs = graph, outputs
        else:
            self._give_up("a replayed pass gave other states")

    def _give_up(self, reason: str) -> None:
        self._captures = False
        warnings.warn(
            f"passes run without CUDA graphs, which is slower ({reason}); {SWITCH}=0 does so "
            "without this warning",
            stacklevel=2,
        )


@contextmanager
def _keeping_garbage() -> Iterator[None]:
    """Collect none meanwhile: to free a graph while another is captured breaks the capture."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def _alike(found: Tensor, expected: Tensor) -> bool:
    """Whether a replay repeats what was computed; token ids may differ in ties."""
    if not found.is_floating_point():
        return True
    wrong = (found.float() - expected.float()).norm()
    return bool(wrong <= _TOLERANCE * expected.float().norm())


class FixedDrafting:
    """Drafts the most likely tokens of rows in one computation.

    Args:
        passes: The draft's passes.
        states: The draft's decoder.
        head: Its output head, [B, H] to [B, columns].
        inputs: What the decoder reads of a token.
        vocabulary: int64 [columns], the token of each of the head's columns; None when they are
            the tokens.
    """

    def __init__(
        self,
        passes: FixedPasses,
        states: States,
        head: Callable[[Tensor], Tensor],
        inputs: Inputs,
        vocabulary: Tensor | None,
    ) -> None:
        self.passes, self.states, self.head, self.inputs = passes, states, head, inputs
        self.vocabulary = None if vocabulary is None else vocabulary.to(passes.device)

    @torch.inference_mode()
    def run(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        steps: Sequence[int],
        least: float = 0.0,
    ) -> Drafted:
        """As `DraftsAtOnce`; as many are drafted as any row wants."""
        ids, chances = self.passes.draft(
            rows, embeddings, counts, steps, self.states, self._choose, self.inputs
        )
        lasting = (chances.cumprod(dim=1) >= least).int().cumprod(dim=1).sum(dim=1)
        for row, count in zip(rows, counts, strict=True):
            self.passes.cache.lengths[row] += count + max(steps) - 1
        return Drafted(ids.cpu(), tuple(lasting.tolist()))

    def _choose(self, states: Tensor) -> tuple[Tensor, Tensor]:
        logits = self.head(states).float()
        best = logits.argmax(dim=-1)
        chance = (logits.gather(-1, best[:, None])[:, 0] - logits.logsumexp(dim=-1)).exp()
        return (best if self.vocabulary is None else self.vocabulary[best]), chance
