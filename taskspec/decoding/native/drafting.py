"""Greedy drafting on the compiled kernels: several tokens in one call."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from taskspec.decoding.at_once import Drafted
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
        *[(name, ctypes.c_void_p) for name in ("ends", "counts", "drafted")],
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

    @torch.inference_mode()
    def run(
        self,
        rows: Sequence[int],
        embeddings: Tensor,
        counts: Sequence[int],
        steps: Sequence[int],
        least: float = 0.0,
    ) -> Drafted:
        """As `DraftsAtOnce`; embeddings in bf16."""
        decoder, library, most = self.decoder, kernels(), max(steps)
        assert library is not None
        starts = [decoder.lengths[row] if row < len(decoder.lengths) else 0 for row in rows]
        after = [start + count for start, count in zip(starts, counts, strict=True)]
        decoder.reserve(max(rows) + 1, 0)
        decoder.reserve(0, max(after) + most)
        begin = decoder.pass_over(rows, starts, embeddings, counts)
        batch, hidden = len(rows), decoder.hidden
        positions = torch.tensor(after, dtype=torch.int32)
        row_of = torch.tensor(rows, dtype=torch.int32)
        states = torch.empty(batch, 1, hidden, dtype=torch.bfloat16)
        given = decoder.open_pass(torch.empty(batch, hidden), row_of, positions, states)
        drafted = torch.empty(most, batch, dtype=torch.int64)
        kept = torch.zeros(batch, dtype=torch.int32)
        ends = torch.tensor(list(accumulate(counts)), dtype=torch.int32) - 1
        fusion = self.fusion
        wanted = _Drafting(
            steps=most,
            columns=self.head.out_features,
            head=self.head.weight.place(),
            vocabulary=address(self.vocabulary),
            embeddings=address(self.embeddings),
            fusion=Weight() if fusion is None else fusion.linear.weight.place(),
            state_norm=None if fusion is None else address(fusion.state_norm),
            token_norm=None if fusion is None else address(fusion.token_norm),
            epsilon=0.0 if fusion is None else fusion.epsilon,
            least=least,
            ends=address(ends),
            counts=address(kept),
            drafted=address(drafted),
        )
        made = library.run_drafts(
            ctypes.byref(decoder.structure),
            ctypes.byref(begin),
            ctypes.byref(given),
            ctypes.byref(wanted),
            ctypes.c_void_p(address(positions)),
        )
        for row, length in zip(rows, after, strict=True):
            decoder.lengths[row] = length + made - 1
        return Drafted(drafted[:made].t(), tuple(kept.tolist()))
