"""The kit catches bugs: each plugin here has one planted, a trap that real projects fell into."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from taskspec_aligners.kd import KD
from taskspec_aligners.lora_kd import LoraKD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_encoders.tfidf import Tfidf
from taskspec_partitioners.kmeans import KMeansPartitioner
from taskspec_routers.logistic import Logistic
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection

from taskspec.decoding.sampling import sample
from taskspec.interfaces import AlignmentLoss, Proposal, Sampling, Verdict
from taskspec.testing import ContractError, checks_for

MUTANTS = []


def mutant(caught_by, options=None, raises=ContractError):
    """Register a broken plugin with the check that must catch it, and how it shows."""

    def register(plugin):
        MUTANTS.append(pytest.param(plugin, options, caught_by, raises, id=plugin.__name__))
        return plugin

    return register


# Verifiers


@mutant("exact_distribution")
class AcceptsTooOften(Rejection):
    """Noise scaled, so that a few percent too many tokens stand."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        return super().verify(tokens, lengths, draft_probs, target_probs, noise * 0.97)


@mutant("exact_distribution")
class SamplesTargetAfterRefusal(Rejection):
    """Samples p instead of the residual (p - q)+ after a refusal."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        at = target_probs[torch.arange(len(tokens)), verdict.accepted]
        return Verdict(verdict.accepted, sample(at, noise[:, -1]))


@mutant("greedy_call_agrees")
class AcceptsOneTooManyWhenGreedy(Rejection):
    """A shortcut for greedy requests that lets a token stand that the target did not choose."""

    def verify_greedy(self, tokens, lengths, best, vocabulary_size):
        verdict = super().verify_greedy(tokens, lengths, best, vocabulary_size)
        accepted = torch.minimum(verdict.accepted + 1, lengths)
        return Verdict(accepted, best.gather(1, accepted[:, None])[:, 0])


@mutant("equal_distributions_accept_all")
class IgnoresDraftProbabilities(Rejection):
    """Treats a sampled draft as if it were certain: still exact, but accepts far less."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        return super().verify(tokens, lengths, None, target_probs, noise)


@mutant("exact_distribution")
class ReusesAcceptanceNoise(Rejection):
    """The noise that refused a token also samples the next one."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        reused = noise.clone()
        reused[:, -1] = noise[:, 0]
        return super().verify(tokens, lengths, draft_probs, target_probs, reused)


@mutant("impossible_tokens_never_emitted")
class AcceptsAtEquality(Rejection):
    """`u <= p / q` lets a token of probability zero stand when the noise is zero."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        nudged = (noise - 1e-9).clamp(min=-1e-9)
        return super().verify(tokens, lengths, draft_probs, target_probs, nudged)


@mutant("greedy_identity")
class SkipsTheCorrection(Greedy):
    """Emits the target's token one position late."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        best = target_probs.argmax(-1)
        later = (verdict.accepted + 1).clamp(max=best.shape[1] - 1)
        return Verdict(verdict.accepted, best.gather(1, later[:, None])[:, 0])


@mutant("rows_are_independent")
class AcceptsPadding(Rejection):
    """Ignores the lengths of shorter rows."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        full = torch.full_like(lengths, tokens.shape[1])
        return super().verify(tokens, full, draft_probs, target_probs, noise)


@mutant("rows_are_independent")
class StopsWithTheFirstRow(Greedy):
    """All rows accept as few tokens as the worst one."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        least = verdict.accepted.min().expand(len(tokens))
        best = target_probs.argmax(-1)
        return Verdict(least, best.gather(1, least[:, None])[:, 0])


@mutant("noise_is_the_only_randomness")
class OwnRandomness(Rejection):
    """Draws its own noise."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        generator = torch.Generator()
        generator.seed()
        own = torch.rand(noise.shape, generator=generator)
        return super().verify(tokens, lengths, draft_probs, target_probs, own)


@mutant("rounding_leaves_no_gap", raises=RuntimeError)
class DividesUnguarded(Rejection):
    """Normalises an empty residual: NaN."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        if draft_probs is None or not tokens.shape[1]:
            return verdict
        residual = (target_probs[:, 0] - draft_probs[:, 0]).clamp(min=0)
        residual = residual / residual.sum(-1, keepdim=True)
        return Verdict(verdict.accepted, torch.multinomial(residual, 1)[:, 0])


@mutant("bonus_token_after_full_acceptance")
class NoBonusPosition(Greedy):
    """On full acceptance repeats the last drafted position."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        best = target_probs.argmax(-1)
        at = verdict.accepted.clamp(max=max(tokens.shape[1] - 1, 0))
        return Verdict(verdict.accepted, best.gather(1, at[:, None])[:, 0])


@mutant("inputs_unchanged")
class WritesIntoInputs(Rejection):
    """Zeroes the engine's noise."""

    def verify(self, tokens, lengths, draft_probs, target_probs, noise):
        verdict = super().verify(tokens, lengths, draft_probs, target_probs, noise)
        noise.zero_()
        return verdict


# Drafters

SMALL = CausalLMOptions(layers=2)


@mutant("tokens_follow_their_own_distribution", SMALL)
class ReturnsOtherProbabilities(CausalLM):
    """Returns the distribution at temperature one, whatever was sampled from."""

    def propose(self, rows, k, noise):
        proposal = super().propose(rows, k, noise)
        probs = proposal.probs
        flat = None if probs is None else (probs**0.3) / (probs**0.3).sum(-1, keepdim=True)
        return Proposal(proposal.tokens, proposal.lengths, flat, proposal.vocabulary)


@mutant("processors_are_applied", SMALL)
class IgnoresTheTemperature(CausalLM):
    """Samples every request at temperature one."""

    def start(self, row, prompt, sampling, hidden=None, adapter=None):
        plain = sampling if sampling.greedy else Sampling(1.0)
        super().start(row, prompt, plain, hidden, adapter)


@mutant("commit_equals_a_fresh_start", SMALL)
class ForgetsToRollBack(CausalLM):
    """Keeps refused tokens in the KV cache and feeds the newest token only."""

    def commit(self, rows, tokens, counts, hidden=None):
        for row, emitted, count in zip(rows, tokens.tolist(), counts.tolist(), strict=True):
            state = self._rows[row]
            state.tokens[state.proposed_from :] = emitted[:count]
            state.proposed_from = len(state.tokens)

    def _next_logits(self, model, rows):
        newest = torch.tensor([[self._rows[row].tokens[-1]] for row in rows])
        return model.head(model.forward(rows, newest)[:, -1])


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
        lengths = [self._model(None).length(row) for row in rows]
        super().commit(rows, tokens, counts, hidden)
        for row, length in zip(rows, lengths, strict=True):
            text = len(self._rows[row].tokens)
            self._model(None).cache.lengths[row] = min(length, text)


@mutant("rows_are_independent", SMALL)
class SharesNoise(CausalLM):
    """Every row uses the first row's noise."""

    def propose(self, rows, k, noise):
        return super().propose(rows, k, noise[:1].expand_as(noise))


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


# Aligners


@mutant("minimum_where_student_equals_teacher")
class SwapsTheSign(KD):
    """Climbs instead of descending."""

    def loss(self, student_logits, teacher, vocabulary):
        result = super().loss(student_logits, teacher, vocabulary)
        return AlignmentLoss(-result.loss, result.metrics)


@mutant("loss_is_a_mean_over_positions")
class SumsOverPositions(KD):
    """The loss grows with the batch, so that processes and batch sizes disagree."""

    def loss(self, student_logits, teacher, vocabulary):
        result = super().loss(student_logits, teacher, vocabulary)
        return AlignmentLoss(result.loss * len(student_logits), result.metrics)


@mutant("gradients_only_where_promised")
class TrainsNothing(KD):
    """Freezes everything."""

    def prepare(self, drafter, seed):
        module = super().prepare(drafter, seed)
        return module.requires_grad_(False)


@mutant("export_reloads_with_equal_logits")
class ExportsTheStart(KD):
    """Delivers the weights from before training."""

    def prepare(self, drafter, seed):
        module = super().prepare(drafter, seed)
        self.start = {name: p.detach().clone() for name, p in module.named_parameters()}
        return module

    def export(self, drafter, folder):
        with torch.no_grad():
            for name, parameter in drafter.module.named_parameters():
                parameter.copy_(self.start[name])
        super().export(drafter, folder)
        with torch.no_grad():
            for parameter in drafter.module.parameters():
                parameter.add_(0.0)


@mutant("prepare_is_seeded")
class AdaptersFromAnySeed(LoraKD):
    """The adapters' start does not depend on the seed that is given."""

    def prepare(self, drafter, seed):
        return super().prepare(drafter, random.SystemRandom().randrange(10**6))


# Routers, partitioners, encoders


@mutant("column_is_label")
class ColumnsByFrequency(Logistic):
    """Columns in order of first appearance rather than of labels."""

    def fit(self, inputs, labels, seed):
        order = list(dict.fromkeys(labels.tolist()))
        super().fit(inputs, np.array([order.index(label) for label in labels.tolist()]), seed)


@mutant("probabilities")
class Scores(Logistic):
    """Scores, not probabilities."""

    def predict_proba(self, inputs):
        return np.log(super().predict_proba(inputs) + 1e-9)


@mutant("one_class", raises=ValueError)
class NeedsTwoClasses(Logistic):
    """A single task crashes it."""

    def fit(self, inputs, labels, seed):
        if len(np.unique(labels)) < 2:
            raise ValueError("at least two classes are needed")
        super().fit(inputs, labels, seed)


@mutant("unseen_words")
class DividesByTheNorm(Logistic):
    """An unknown prompt is 0 / 0."""

    def predict_proba(self, inputs):
        with np.errstate(invalid="ignore"):
            unit = inputs / np.linalg.norm(inputs, axis=1, keepdims=True)
        return super().predict_proba(unit.astype(np.float32))


@mutant("saves_no_pickle")
class SavesAPickle(Logistic):
    """Writes a pickle beside its weights."""

    def save(self, folder):
        import pickle

        super().save(folder)
        (folder / "router.json").write_bytes(pickle.dumps({"a": 1}))


@mutant("saved_state_restores")
class ForgetsItsBias(Logistic):
    """Half of the state is not saved."""

    @classmethod
    def load(cls, folder, options):
        router = super().load(folder, options)
        router._weights = router._weights[::-1].copy()
        return router


@mutant("picklable_for_workers")
class HoldsALambda(Logistic):
    """Cannot travel to worker processes."""

    def __init__(self, options=None):
        super().__init__(options)
        self.transform = lambda value: value


@mutant("repeatable")
class UnseededClusters(KMeansPartitioner):
    """Labels differ from call to call."""

    calls = itertools.count()

    def predict(self, vectors, texts):
        labels = super().predict(vectors, texts)
        return (labels + next(self.calls)) % (labels.max(initial=0) + 1)


@mutant("labels_are_contiguous")
class LeavesAGap(KMeansPartitioner):
    """Labels 0, 2, 4."""

    def fit(self, vectors, texts, context):
        return super().fit(vectors, texts, context) * 2


@mutant("too_few_prompts", raises=IndexError)
class CrashesOnFew(KMeansPartitioner):
    """Few prompts give a library's traceback instead of a message."""

    def fit(self, vectors, texts, context):
        if len(vectors) < 3:
            raise IndexError("list index out of range")
        return super().fit(vectors, texts, context)


@mutant("predict_agrees_with_fit")
class PredictsAnotherOrder(KMeansPartitioner):
    """`predict` numbers the tasks otherwise than `fit`."""

    def fit(self, vectors, texts, context):
        labels = super().fit(vectors, texts, context)
        return labels.max() - labels


@mutant("rows_have_unit_norm")
class NotNormalised(Tfidf):
    """Vectors of any length."""

    def encode(self, texts):
        return super().encode(texts) * 3


@mutant("texts_are_independent")
class CentresTheBatch(Tfidf):
    """Subtracts the mean of whatever is encoded together."""

    def encode(self, texts):
        vectors = super().encode(texts)
        centred = vectors - vectors.mean(axis=0, keepdims=True)
        norms = np.linalg.norm(centred, axis=1, keepdims=True)
        return np.where(norms > 0, centred / np.maximum(norms, 1e-9), 0).astype(np.float32)


@mutant("vector_form")
class DoublePrecision(Tfidf):
    """float64 vectors."""

    def encode(self, texts):
        return super().encode(texts).astype(np.float64)


@dataclass(frozen=True)
class UndocumentedOptions:
    """An option without a word about it."""

    strength: float = 1.0


@mutant("declaration")
class Undocumented(Logistic):
    """Options that nobody can read about."""

    Options = UndocumentedOptions


@pytest.mark.parametrize(("plugin", "options", "caught_by", "raises"), MUTANTS)
def test_the_kit_catches(plugin, options, caught_by, raises):
    instance = plugin(options)
    check = next(each for each in checks_for(instance) if each.name == caught_by)
    with pytest.raises(raises):
        check(instance)


def test_there_are_enough_of_them():
    assert len(MUTANTS) >= 25
