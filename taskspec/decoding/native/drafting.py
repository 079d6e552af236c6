"""Greedy drafting on the compiled kernels: several tokens in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from taskspec.decoding.native.decoder import NativeDecoder
from taskspec.decoding.native.library import address, kernels
from taskspec.decoding.native.linear import NativeLinear, Weight


class _Drafting(ctypes.Structure):
    _fields_ = [
        *[(name, ctypes.c_int32) for name in ("steps", "columns")],
        ("head", Weight),
        *[(name, ctypes.c_void_p) for name in ("vocabulary", "embeddings")],
        ("fusion", Weight),
        *[(name, ctypes.c_void_p) for name in ("state_norm", "token_norm")],
        *[(name, ctypes.c_float) for name in ("epsilon", "least")],
        *[(name, ctypes.c_void_p) for name in ("chances", "counts", "last", "drafted")],
    ]


@dataclass(frozen=True)
class Fusion:
    """How a draft joins the state before a token with its embedding: fusion([norm; norm]).

    Attributes:
        linear: From [2 H] to [H], without bias.
        state_norm: float32 [H], weight of the state's RMS norm.
        token_norm: float32 [H], of the embedding's.
        epsilon: Of both.
    """

    linear: NativeLinear
    state_norm: Tensor
    token_norm: Tensor
    epsilon: float


@dataclass(frozen=True)
class Drafted:
    """What rows drafted.

    Attributes:
        tokens: int64 [B, steps], the passes that were made; the rows' lengths grew by these.
        counts: How many of its tokens each row's draft keeps.
    """

    tokens: Tensor
    counts: tuple[int, ...]


class GreedyDrafting:
    """Drafts the most likely tokens of rows that a native decoder holds.

    Args:
        decoder: The draft's decoder.
        head: Its output head, without bias.
        embeddings: bf16 [tokens, H].
        vocabulary: int64 [columns], the token of each of the head's columns; None when they are
            the tokens.
        fusion: For drafts that read the state before each token, too.
    """

    def __init__(
        self,
        decoder: NativeDecoder,
        head: NativeLinear,
        embeddings: Tensor,
        vocabulary: Tensor | None = None,
        fusion: Fusion | None = None,
    ) -> None:
        self.decoder, self.head, self.fusion = decoder, head, fusion
        self.embeddings = embeddings.detach()
        self.vocabulary = None if vocabulary is None else vocabulary.to(torch.int64).contiguous()

    def run(
        self,
        rows: Sequence[int],
        last: Tensor,
        steps: int,
        states: Tensor | None = None,
        least: float = 0.0,
        chances: Sequence[float] = (),
    ) -> Drafted:
        """Feed each row its last token and draft up to `steps` tokens.

        Args:
            rows: B row numbers.
            last: int64 [B], tokens that the cache lacks.
            steps: At least 1.
            states: bf16 [B, H], the state before each `last`, for drafts with a fusion.
            least: A row keeps tokens while the chance of all of them, the product of the highest
                probabilities, is at least this; the drafting ends when no row goes on.
            chances: Of what each row drafted before; needed where `least` is above 0.
        """
        decoder, library = self.decoder, kernels()
        assert library is not None
        decoder.reserve(max(rows) + 1, 0)
        decoder.reserve(0, max(decoder.lengths[row] for row in rows) + steps)
        count, hidden = len(rows), decoder.hidden
        positions = torch.tensor([decoder.lengths[row] for row in rows], dtype=torch.int32)
        work = torch.empty(count, 1, hidden, dtype=torch.bfloat16)
        if states is not None:
            work[:, 0] = states
        last, drafted = last.clone(), torch.empty(steps, count, dtype=torch.int64)
        counts = torch.zeros(count, dtype=torch.int32)
        chance_of = torch.tensor(chances) if least else torch.ones(count)
        row_of = torch.tensor(rows, dtype=torch.int32)
        given = decoder.open_pass(torch.empty(count, hidden), row_of, positions, work)
        fusion = self.fusion
        wanted = _Drafting(
            steps=steps,
            columns=self.head.out_features,
            head=self.head.weight.place(),
            vocabulary=address(self.vocabulary),
            embeddings=address(self.embeddings),
            fusion=Weight() if fusion is None else fusion.linear.weight.place(),
            state_norm=None if fusion is None else address(fusion.state_norm),
            token_norm=None if fusion is None else address(fusion.token_norm),
            epsilon=0.0 if fusion is None else fusion.epsilon,
            least=least,
            chances=address(chance_of),
            counts=address(counts),
            last=address(last),
            drafted=address(drafted),
        )
        made = library.run_drafts(
            ctypes.byref(decoder.structure),
            ctypes.byref(given),
            ctypes.byref(wanted),
            ctypes.c_void_p(address(positions)),
        )
        for row in rows:
            decoder.lengths[row] += made
        return Drafted(drafted[:made].t(), tuple(counts.tolist()))
