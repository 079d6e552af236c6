"""Bugs planted in drafters: the conformance kit catches each."""

from __future__ import annotations

import pytest
import torch
from planted import mutants
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_drafters.suffix import Suffix

from taskspec.interfaces import Proposal, Sampling

MUTANTS, mutant = mutants()


SMALL = CausalLMOptions(layers=2)


@mutant("tokens_follow_their_own_distribution", SMALL)
class ReturnsOtherProbabilities(CausalLM):
    """Returns the distribution at temperature one, whatever was sampled from."""

    def propose(self, rows, k, noise):
        proposal = super().propose(rows, k, noise)
        probs = proposal.probs
        flat = None if probs is None else (probs**0.3) / (probs**0.3).sum(-1, keepdim=True)
        return Proposal(proposal.tokens, proposal.lengths, flat, proposal.vocabulary)


@mutant("tokens_follow_their_own_distribution", SMALL)
class EndsAtUnlikelyDraws(CausalLM):
    """From the third token on, a draft ends before one that came out unlikely."""

    def propose(self, rows, k, noise):
        made = super().propose(rows, k, noise)
        if made.probs is None:
            return made
        unlikely = made.probs.gather(-1, made.tokens[..., None])[..., 0] < 0.3
        unlikely[:, :2] = False
        stands = (~unlikely).long().cumprod(1).sum(1)
        return Proposal(made.tokens, made.lengths.minimum(stands), made.probs, made.vocabulary)


@mutant("processors_are_applied", SMALL)
class IgnoresTheTemperature(CausalLM):
    """Samples every request at temperature one."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        plain = sampling if sampling.greedy else Sampling(1.0)
        super().start(row, prompt, plain, hidden, adapter)


@mutant("commit_equals_a_fresh_start", SMALL)
class ForgetsToRollBack(CausalLM):
    """Keeps refused tokens in the KV cache and feeds the newest token only."""

    def _work(self, module, vocabulary):
        rows = super()._work(module, vocabulary)
        rows.drafting = None

        def commit(row, emitted, states):
            rows.texts[row].settle(emitted)

        def missing(numbers):
            newest = torch.tensor([[rows.texts[row].tokens[-1]] for row in numbers])
            return rows.embed(newest), [1] * len(numbers)

        rows.commit, rows._missing = commit, missing
        return rows


@mutant("commit_equals_a_fresh_start", SMALL)
class OneTokenBehind(CausalLM):
    """On full acceptance the last drafted token never enters the text."""

    def commit(self, rows, tokens, counts, hidden=None):
        fewer = torch.where(counts > 2, counts - 1, counts)
        super().commit(rows, tokens, fewer, hidden)


@mutant("commit_equals_a_fresh_start", SMALL, raises=RuntimeError)
class LeavesNothingToFeed(CausalLM):
    """A last token that was drafted just so stays in the cache, so that none is left to feed."""

    def commit(self, rows, tokens, counts, hidden=None):
        at_work = self._at_work(None)
        lengths = [at_work.length(row) for row in rows]
        super().commit(rows, tokens, counts, hidden)
        for row, length in zip(rows, lengths, strict=True):
            at_work.cache.lengths[row] = min(length, len(at_work.texts[row].tokens))


@mutant("rows_are_independent", SMALL)
class SharesNoise(CausalLM):
    """Every row uses the first row's noise."""

    def propose(self, rows, k, noise):
        return super().propose(rows, k, noise[:1].expand_as(noise))


@mutant("rows_are_independent", SMALL)
class BolderInCompany(CausalLM):
    """A greedy row drafts a token more where a sampled one is beside it."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        self.__dict__.setdefault("greedy", {})[row] = sampling.greedy
        super().start(row, prompt, sampling, hidden, adapter)

    def propose(self, rows, k, noise):
        made = super().propose(rows, k, noise)
        if not all(self.greedy[row] for row in rows):
            return made
        return Proposal(made.tokens, (made.lengths - 1).clamp(min=0), made.probs, made.vocabulary)


@mutant("commits_without_proposals", SMALL)
class CommitsWhatItProposed(CausalLM):
    """Takes a commit in only where it has proposed since the last one."""

    def propose(self, rows, k, noise):
        self.__dict__.setdefault("asked", set()).update(rows)
        return super().propose(rows, k, noise)

    def commit(self, rows, tokens, counts, hidden=None):
        mine = [place for place, row in enumerate(rows) if row in self.__dict__.get("asked", ())]
        if mine:
            super().commit([rows[place] for place in mine], tokens[mine], counts[mine])
            self.asked.difference_update(rows)


@mutant("commits_without_proposals")
class CommitsAtMostADraft(PromptLookup):
    """Takes in no more tokens than it drafted and one more."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        self.__dict__.setdefault("most", {})[row] = 1
        super().start(row, prompt, sampling, hidden, adapter)

    def propose(self, rows, k, noise):
        self.most.update((row, own + 1) for row, own in zip(rows, k, strict=True))
        return super().propose(rows, k, noise)

    def commit(self, rows, tokens, counts, hidden=None):
        most = torch.tensor([self.most[row] for row in rows])
        super().commit(rows, tokens, counts.minimum(most), hidden)


@mutant("remembered_answers_count_alike_for_all_rows")
class LeavesRowsBehind(Suffix):
    """Rows that are served go on from where they stood in the answers before."""

    def remember(self, answer, most):
        self._served.add(answer, most)


@mutant("remembered_answers_count_alike_for_all_rows")
class LooksAtPromptsAlone(Suffix):
    """Finds rows anew without what was committed to them."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        super().start(row, prompt, sampling, hidden, adapter)
        self._rows[row].tokens = Frozen(prompt)


class Frozen(list):
    """A list that does not grow."""

    def extend(self, tokens):
        pass


@mutant("remembered_answers_count_alike_for_all_rows")
class ForgetsNothing(Suffix):
    """Keeps what it has served."""

    def forget(self):
        pass


@mutant("remembered_answers_count_alike_for_all_rows")
class LearnsNothing(Suffix):
    """Takes answers in, and lets them be."""

    def remember(self, answer, most):
        pass


@mutant("remembered_answers_count_alike_for_all_rows", raises=NotImplementedError)
class OnlySaysThatItRemembers(PromptLookup):
    """Names what it does not have."""

    remembers = True


@mutant("copies_depend_on_the_text_alone")
class CopiesOnlyOnce(PromptLookup):
    """Has nothing to say when it is asked again."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        self.__dict__.setdefault("fresh", set()).add(row)
        super().start(row, prompt, sampling, hidden, adapter)

    def propose(self, rows, k, noise):
        lengths = torch.tensor([int(row in self.fresh) for row in rows])
        self.fresh.difference_update(rows)
        return Proposal(torch.full((len(rows), 1), 7), lengths)


@mutant("row_numbers_are_reused")
class NeverForgets(PromptLookup):
    """A row's number keeps the text of its earlier request."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        kept = self.__dict__.setdefault("kept", {})
        kept[row] = [*kept.get(row, []), *prompt]
        super().start(row, kept[row], sampling, hidden, adapter)


@mutant("copies_depend_on_the_text_alone")
class CopiesByChance(PromptLookup):
    """Copies for greedy requests, draws for the others, and says that it copies."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        self.__dict__.setdefault("greedy", {})[row] = sampling.greedy
        super().start(row, prompt, sampling, hidden, adapter)

    def propose(self, rows, k, noise):
        drawn = torch.tensor([not self.greedy[row] for row in rows])
        first = torch.where(drawn, (noise[:, :1] * 20).long().squeeze(1), 7)[:, None]
        return Proposal(first, torch.tensor([min(each, 1) for each in k]))


@mutant("proposal_form")
class ProposesTooMuch(PromptLookup):
    """Ignores the draft length asked for."""

    def propose(self, rows, k, noise):
        tokens = torch.full((len(rows), 5), 7)
        return Proposal(tokens, torch.full((len(rows),), 5))


@mutant("greedy_rows_draft_one_hot", SMALL)
class SamplesGreedyRequests(CausalLM):
    """Drafts at temperature one though the request is greedy."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        super().start(row, prompt, Sampling(1.0), hidden, adapter)


@mutant("trained_equals_served", SMALL)
class TrainsAnotherPosition(CausalLM):
    """Training logits are shifted by one position against drafting."""

    def training_logits(self, batch, teacher):
        return super().training_logits(batch, teacher).roll(1, dims=0)


@mutant("training_ignores_padding_and_neighbours", SMALL)
class AttendsAcrossSegments(CausalLM):
    """Packed sequences see each other."""

    def training_logits(self, batch, teacher):
        merged = type(batch)(
            batch.tokens, batch.positions, torch.zeros_like(batch.segments), batch.trained
        )
        return super().training_logits(merged, teacher)


@mutant("training_head_works_row_by_row", SMALL)
class CentresItsLogits(CausalLM):
    """The head takes the mean over the positions that come together."""

    @property
    def training_head(self):
        head = super().training_head

        class Centred(torch.nn.Module):
            def forward(self, states):
                logits = head(states)
                return logits - logits.mean(dim=0)

        return Centred()


@mutant("drafted_states_begin_with_the_trained_ones", SMALL)
class CountsPlacesFromOne(CausalLM):
    """Leaves out the place after the last emitted token."""

    def drafted_states(self, batch, teacher, steps):
        return super().drafted_states(batch, teacher, steps + 1)[1:][: steps - 1]


@mutant("specialised_draft_is_a_part_of_the_whole", SMALL)
class SpecialisesTheTrainingAlone(CausalLM):
    """Names fewer tokens than its head has rows."""

    def specialise(self, corpus):
        self._vocabulary = torch.arange(5)


@mutant("module_can_be_replaced", SMALL)
class DraftsWithOldWeights(CausalLM):
    """Goes on drafting with the module that it was built with."""

    @property
    def module(self):
        return super().module

    @module.setter
    def module(self, module):
        self._module = module  # what runs for drafting stays


@mutant("global_generators_untouched", SMALL)
class SeedsTheWorld(CausalLM):
    """Calls torch.manual_seed."""

    def propose(self, rows, k, noise):
        torch.manual_seed(0)
        return super().propose(rows, k, noise)


@pytest.mark.parametrize("planted", MUTANTS, ids=str)
def test_the_kit_catches(planted):
    planted.assert_caught()
