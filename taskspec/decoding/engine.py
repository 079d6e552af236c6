"""The one decoding loop: draft k, one target pass over k + 1 positions, verify, commit.

Plain decoding is the same loop with k = 0. Rows of a batch have lengths, drafts and draft
lengths of their own, and no row's distribution depends on another row.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from taskspec.decoding.answer_memory import AnswerMemory
from taskspec.decoding.cached_model import CachedModel
from taskspec.decoding.correction import Correction
from taskspec.decoding.drafting import Drafts, draft_batch
from taskspec.decoding.own_noise import own_noise
from taskspec.decoding.pacing import Pace
from taskspec.decoding.prefixes import PrefixCache
from taskspec.decoding.records import Generation, Request, StepRecord
from taskspec.decoding.row import Row
from taskspec.decoding.sampling import probabilities_per_row, sample
from taskspec.errors import DecodingError, PluginError, listed
from taskspec.interfaces import Drafter, Target, Verdict, Verifier

Emit = Callable[[str, Sequence[int]], None]
Finish = Callable[[Generation], None]
_SEEDS = range(-(2**63), 2**64)
"""What torch's generators take."""


class Engine:
    """Decodes requests with one target, a pool of drafters and one verifier.

    Args:
        target: The model whose distribution the answers have.
        verifier: Decides which drafted tokens stand.
        drafters: The pool, by the name that requests use.
        keep_hidden: Keep the final hidden state and log-normalizer of every answer token, as
            teacher signal for alignment.
        prefixes: Token ids that many prompts begin with, such as `shared_prefixes` finds; each is
            read once, and prompts go on from a copy.
    """

    def __init__(
        self,
        target: Target,
        verifier: Verifier,
        drafters: Mapping[str, Drafter] | None = None,
        keep_hidden: bool = False,
        prefixes: Iterable[Sequence[int]] = (),
    ) -> None:
        self.target = target
        self.verifier = verifier
        self.drafters = dict(drafters or {})
        self.keep_hidden = keep_hidden
        self.model = CachedModel(target.model, target.head)
        wanted = {drafter.hidden_layers for drafter in self.drafters.values()} - {()}
        if len(wanted) > 1:
            raise DecodingError(
                f"the drafters want different target hidden states {sorted(wanted)}; "
                "decode them with separate engines"
            )
        self.hidden_layers = (-1, *wanted.pop()) if wanted else (-1,)
        self.prefixes = PrefixCache(self.model, prefixes, self.hidden_layers)

    def beside(self, drafters: Mapping[str, Drafter]) -> Engine:
        """The same engine with other drafters of the same names and kinds.

        Model and caches are shared, so the two cannot decode at once.
        """
        twin = copy.copy(self)
        twin.drafters = dict(drafters)
        return twin

    def generate(
        self,
        requests: Sequence[Request],
        batch_size: int = 1,
        on_emit: Emit | None = None,
        on_finish: Finish | None = None,
        pace: Pace | None = None,
        correction: Correction | None = None,
        memory: AnswerMemory | None = None,
    ) -> list[Generation]:
        """Answer requests, `batch_size` at a time, admitting a new one whenever a row ends.

        Args:
            requests: What to answer.
            batch_size: Rows decoded together.
            on_emit: Called with the request id and its new tokens after every pass.
            on_finish: Called with every generation as soon as it is done.
            pace: Shortens drafts where rows that share a pass make long ones cost more than they
                bring; None drafts as far as every request asks.
            correction: Replaces drafts that fall short of what was promised, and chooses draft
                lengths; in the place of a pace.
            memory: Hands finished answers to drafts that remember; None keeps nothing.

        Returns:
            One generation per request, in the order of the requests.

        Raises:
            DecodingError: For requests that cannot be decoded as asked; nothing is decoded.
        """
        if pace is not None and correction is not None:
            raise DecodingError("a correction chooses draft lengths itself; leave the pace out")
        self.check(requests)
        shared = pace is not None and len({each.seed for each in requests}) < len(requests)
        if shared or memory is not None or (correction is not None and correction.experience):
            # What one answer showed chooses what another drafts: not by the same noise.
            requests = [own_noise(request) for request in requests]
        done = {}
        by_id = {request.id: request for request in requests}
        for result in self._run(requests, batch_size, on_emit, pace, correction):
            done[result.id] = result
            if on_finish is not None:
                on_finish(result)
            if memory is not None:
                memory.take_in(by_id[result.id], result)
        return [done[request.id] for request in requests]

    def _run(
        self,
        requests: Sequence[Request],
        batch_size: int,
        on_emit: Emit | None,
        pace: Pace | None,
        correction: Correction | None,
    ) -> Iterator[Generation]:
        queue = deque(requests)
        slots = list(range(batch_size))[::-1]
        active: list[Row] = []
        try:
            while queue or active:
                admitted = []
                while queue and slots:
                    admitted.append(self._new_row(queue.popleft(), slots.pop(), correction))
                before = {id(row): len(row.tokens) for row in active}
                if admitted:
                    # Theirs before the pass, so that what breaks it leaves nothing behind.
                    active = sorted([*active, *admitted], key=lambda row: row.slot)
                    self._prefill(admitted)
                else:
                    self._step(active, pace)
                for row in active:
                    new = row.tokens[before.get(id(row), 0) :]
                    if on_emit is not None and new:
                        on_emit(row.request.id, new)
                for row in [row for row in active if row.finish is not None]:
                    active.remove(row)
                    slots.append(row.slot)
                    self._release(row)
                    yield row.result()
        finally:
            for row in active:
                self._release(row)

    def _new_row(self, request: Request, slot: int, correction: Correction | None) -> Row:
        # Whoever ran the model last, as to measure it, may have been stopped in the middle.
        self.model.rollback(slot, 0)
        row = Row(request, slot, self.target.eos_token_ids, self.target.context_length)
        if correction is not None:
            row.pilot = correction.pilot(row, self.drafters)
        return row

    def _release(self, row: Row) -> None:
        self.model.rollback(row.slot, 0)
        row.stop(self.drafters)
        if row.pilot is not None:
            row.pilot.stop()

    @torch.inference_mode()
    def _prefill(self, rows: list[Row]) -> None:
        """Run what no prefix covers of the prompts, emit each row's first token.

        Rows that go on from the same length share a pass: padded together, others would make it
        as long as the longest prefix and the longest rest.
        """
        begun = {row.slot: self.prefixes.begin(row.slot, row.request.prompt) for row in rows}
        by_length: dict[int, list[Row]] = {}
        for row in rows:
            by_length.setdefault(len(begun[row.slot]), []).append(row)
        for own in by_length.values():
            self._read(own, [begun[row.slot] for row in own])

    def _read(self, rows: list[Row], begun: list[Tensor]) -> None:
        """Run what is left of prompts (right-padded) after prefixes of one length.

        A draft that goes on from the target's states starts now, while they are here; others start
        when they first draft, which in a large batch may be never.
        """
        prompts = [row.request.prompt[len(begun[0]) :] for row in rows]
        counts = [len(prompt) for prompt in prompts]
        tokens = torch.zeros(len(rows), max(counts), dtype=torch.int64)
        for index, prompt in enumerate(prompts):
            tokens[index, : counts[index]] = torch.tensor(prompt)
        slots = [row.slot for row in rows]
        states = self.model.forward(
            slots, tokens.to(self.target.device), counts, self.hidden_layers
        )
        last = states[torch.arange(len(rows)), torch.tensor(counts) - 1, : self.target.hidden_size]
        logits = self.model.head(last[:, None])
        probs = probabilities_per_row(logits, [row.request.sampling for row in rows])[:, 0]
        noise = torch.cat([row.noise(1) for row in rows]).to(probs.device)
        first = sample(probs, noise).tolist()
        if self.keep_hidden:
            self._keep(rows, last[:, None], logits.float().logsumexp(-1), [1] * len(rows))
        for index, row in enumerate(rows):
            row.emit([first[index]])
            if row.choice is None or row.finish is not None:
                continue
            if self.drafters[row.choice.draft].hidden_layers:
                own = self._extra(states[index, : counts[index]])
                row.start(self.drafters, torch.cat([begun[index], own]))

    @torch.inference_mode()
    def _step(self, rows: list[Row], pace: Pace | None) -> None:
        """Draft, verify, commit once for every active row."""
        pilots = [row.pilot for row in rows if row.pilot is not None]
        for pilot in pilots:
            pilot.steer()
        choices, asked = [row.choice for row in rows], [row.draft_length for row in rows]
        if pace is not None:
            asked = [min(pair) for pair in zip(asked, pace.lengths(choices), strict=True)]
        drafts = draft_batch(rows, self.drafters, self.target, asked)
        pending = torch.tensor([[row.tokens[-1]] for row in rows], device=self.target.device)
        tokens = torch.cat([pending, drafts.tokens], dim=1)  # [B, 1 + K]
        slots, counts = [row.slot for row in rows], [1 + n for n in drafts.lengths.tolist()]
        states = self.model.forward(slots, tokens, counts, self.hidden_layers)  # [B, 1 + K, H..]
        hidden = states[..., : self.target.hidden_size]
        places = torch.arange(tokens.shape[1], device=self.target.device)
        real = places <= drafts.lengths[:, None]
        logits = self.model.head(hidden[real])  # [sum of counts, V]
        verdict = self._verify(rows, drafts, logits, real)
        emitted = self._commit(rows, drafts, verdict)
        if self.keep_hidden:
            self._keep(rows, hidden, _padded(logits.float().logsumexp(-1), real), emitted)
        extra = self._extra(states) if len(self.hidden_layers) > 1 else None
        drafts.commit(rows, self.drafters, emitted, extra)
        for pilot in pilots:
            pilot.learn()
        if pace is not None:
            pace.learn(choices, asked, [row.steps[-1] for row in rows])

    def _verify(self, rows: Sequence[Row], drafts: Drafts, logits: Tensor, real: Tensor) -> Verdict:
        """Which drafted tokens stand, given the target's logits [N, V] at the real positions."""
        samplings = [row.request.sampling for row in rows]
        if all(sampling.greedy for sampling in samplings):
            best, size = _padded(logits.argmax(-1), real), logits.shape[-1]
            return self.verifier.verify_greedy(drafts.tokens, drafts.lengths, best, size)
        probs = probabilities_per_row(_padded(logits, real), samplings)
        return self.verifier.verify(
            drafts.tokens, drafts.lengths, drafts.probs, probs, drafts.verify_noise
        )

    def _commit(self, rows: list[Row], drafts: Drafts, verdict: Verdict) -> list[int]:
        """Emit accepted and next tokens, roll the target's cache back to what stands."""
        accepted, following = verdict.accepted.tolist(), verdict.next_token.tolist()
        proposed, lengths = drafts.tokens.tolist(), drafts.lengths.tolist()
        if not all(0 <= n <= most for n, most in zip(accepted, lengths, strict=True)):
            raise PluginError(
                f"verifier '{self.verifier.name}' accepted {accepted} tokens of {lengths} drafted; "
                "Verdict.accepted must not exceed lengths"
            )
        emitted = []
        for index, row in enumerate(rows):
            stands = proposed[index][: accepted[index]]
            count = row.emit([*stands, following[index]])
            emitted.append(count)
            row.record(StepRecord(lengths[index], min(accepted[index], count), count))
            self.model.rollback(row.slot, row.cached)
        return emitted

    def _keep(
        self, rows: Sequence[Row], hidden: Tensor, normalizers: Tensor, counts: Sequence[int]
    ) -> None:
        """Keep states [B, n, H] and normalizers [B, n] behind each row's counts[b] tokens."""
        states, normalizers = hidden.cpu(), normalizers.cpu()
        for index, (row, count) in enumerate(zip(rows, counts, strict=True)):
            row.keep(states[index, :count], normalizers[index, :count])

    def _extra(self, states: Tensor) -> Tensor:
        return states[..., self.target.hidden_size :]

    def check(self, requests: Sequence[Request]) -> None:
        """Refuse what cannot be decoded as asked, before any work.

        Raises:
            DecodingError: All that is wrong, a line per request, up to ten.
        """
        told = [(request.id, self._problem(request)) for request in requests]
        problems = [f"request {name}: {problem}" for name, problem in told if problem is not None]
        if problems:
            raise DecodingError(listed(problems))

    def _problem(self, request: Request) -> str | None:
        """Why a request cannot be decoded as asked; None where it can."""
        if not request.prompt:
            return "the prompt has no tokens; send some text"
        if request.max_new_tokens < 1:
            return "max_new_tokens must be at least 1"
        if request.seed not in _SEEDS:
            return f"a generator takes no seed {request.seed}; choose one from 0 to 2**63"
        if len(request.prompt) >= self.target.context_length:
            return (
                f"the prompt has {len(request.prompt)} tokens, the model's context holds "
                f"{self.target.context_length}; shorten the prompt"
            )
        if request.draft is not None and request.draft.draft not in self.drafters:
            return (
                f"no draft named '{request.draft.draft}' was loaded; loaded: "
                f"{', '.join(sorted(self.drafters)) or 'none'}"
            )
        if not (self.verifier.samples or request.sampling.greedy):
            return (
                f"verifier '{self.verifier.name}' is for greedy decoding only; use temperature 0 "
                "or another verifier, such as 'rejection'"
            )
        return None


def _padded(values: Tensor, real: Tensor) -> Tensor:
    """Values [N, ...] of the true positions of `real` [B, T] at their places, zeros elsewhere."""
    if len(values) == real.numel():
        return values.view(*real.shape, *values.shape[1:])
    padded = values.new_zeros(*real.shape, *values.shape[1:])
    padded[real] = values
    return padded
