"""In-flight correction changes no answer, whatever it switches to and when."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from corrections import GOOD, PASSES, Model, correction, way
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_drafters.suffix import Suffix
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection

from taskspec.decoding.correction import Correction, Pilot
from taskspec.decoding.engine import Engine
from taskspec.decoding.experience import Experience
from taskspec.decoding.pacing import Pace
from taskspec.decoding.prices import Prices, Way
from taskspec.decoding.records import DraftChoice, Request
from taskspec.decoding.row import Row
from taskspec.errors import DecodingError
from taskspec.interfaces import Proposal, Sampling


class Forced(Pilot):
    """Goes through a given course, whatever it has seen; `None` drafts nothing."""

    course: Sequence[tuple[int | None, int]] = ()

    def _affords(self, cost: float) -> bool:
        return True

    def _decide(self):
        place, length = self.course[len(self.row.steps) % len(self.course)]
        if place is None:
            return None, 0
        way = self.ways[place % len(self.ways)]
        return way, min(length, max(0, self.row.room - 1))


class ForcedCorrection(Correction):
    """Hands out pilots with a course."""

    def pilot(self, row, drafters):
        made = super().pilot(row, drafters)
        forced = Forced(self, row, drafters, made.ways)
        forced.course = self.__dict__["course"]
        return forced


def forced(course: Sequence[tuple[int | None, int]], *ways: Way) -> Correction:
    made = ForcedCorrection(Prices(PASSES, 0.1), ways, 0.0, 0.0)
    object.__setattr__(made, "course", course)
    return made


def greedy_requests(draft: DraftChoice | None, count: int = 5) -> list[Request]:
    generator = torch.Generator().manual_seed(3)
    prompts = [torch.randint(2, 48, (n,), generator=generator) for n in (3, 11, 7, 20, 5)][:count]
    return [
        Request(str(i), tuple(p.tolist()), 24, draft=draft, seed=i) for i, p in enumerate(prompts)
    ]


_built: dict[str, Any] = {}


@pytest.fixture
def engine(llama, near_draft) -> Engine:
    if not _built:
        drafters = {"near": near_draft(llama), "far": near_draft(llama, noise=0.4)}
        drafters |= {"copy": PromptLookup(), "suffix": Suffix()}
        _built["engine"] = Engine(llama, Greedy(), drafters)
        asked = greedy_requests(None)
        _built["plain"] = [each.tokens for each in _built["engine"].generate(asked)]
    return _built["engine"]


WAYS = (
    way("near"),
    way("far"),
    way("copy", 0.001, watched=True),
    way("suffix", 0.001, watched=True),
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    course=st.lists(
        st.tuples(st.one_of(st.none(), st.integers(0, 3)), st.integers(0, 4)),
        min_size=1,
        max_size=12,
    ),
    batch_size=st.sampled_from([1, 2, 5]),
    own=st.sampled_from(["near", "copy", None]),
)
def test_no_switching_changes_a_greedy_answer(engine, course, batch_size, own):
    draft = None if own is None else DraftChoice(own, 4)
    asked = greedy_requests(draft)
    found = engine.generate(asked, batch_size, correction=forced(course, *WAYS))
    assert [each.tokens for each in found] == _built["plain"]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_corrected_greedy_answers_are_plain_ones(engine, batch_size):
    for own in (DraftChoice("near", 3), DraftChoice("far", 4), None):
        found = engine.generate(
            greedy_requests(own), batch_size, correction=correction(*WAYS, grace=20)
        )
        assert [each.tokens for each in found] == _built["plain"]
        assert all(sum(each.served.values()) == len(each.steps) for each in found)


def test_a_corrected_sampled_row_does_not_depend_on_its_batch(engine):
    sampling = Engine(engine.target, Rejection(), engine.drafters)
    asked = [replace(r, sampling=Sampling(1.0)) for r in greedy_requests(DraftChoice("near", 4))]
    steering = correction(*WAYS, grace=20)
    alone = [sampling.generate([each], correction=steering)[0].tokens for each in asked]
    together = [each.tokens for each in sampling.generate(asked, 5, correction=steering)]
    assert alone == together


@pytest.mark.parametrize("batch_size", [1, 3])
def test_greedy_answers_that_begin_from_earlier_ones_are_plain_ones(engine, batch_size):
    steering = replace(correction(*WAYS, grace=20), experience=Experience())
    near, far = DraftChoice("near", 3), DraftChoice("far", 4)
    for best, refused in ((WAYS[0], WAYS[1]), (WAYS[3], WAYS[0])):
        steering.experience.forget()
        for known_way, accepted in ((best, 4), (refused, 0)):
            for own in (WAYS[0], WAYS[1], None):
                known = steering.experience.estimate(own, known_way, GOOD, steering.prices)
                for _ in range(40):
                    known.learn(4, 4, accepted)
        for own in (near, far, None):
            found = engine.generate(greedy_requests(own), batch_size, correction=steering)
            assert [each.tokens for each in found] == _built["plain"]
            begun = {next(iter(each.served)).draft for each in found if len(each.tokens) > 9}
            assert begun == {best.choice.draft}


def test_what_learns_from_other_answers_has_noise_of_its_own_where_it_samples(engine):
    """The same noise would judge what it has chosen: drafts and lengths follow earlier answers."""
    sampling = Engine(engine.target, Rejection(), engine.drafters)
    asked = [replace(r, sampling=Sampling(1.0)) for r in greedy_requests(None)]
    for experience, same in ((None, True), (Experience(), False)):
        steering = replace(correction(), experience=experience)
        one, other = (
            [each.tokens for each in sampling.generate(asked, correction=steering)]
            for _ in range(2)
        )
        assert (one == other) == same
    for seeds, same in (((1, 2), True), ((1, 1), False)):
        twins = [replace(asked[1], id=str(at), seed=seed) for at, seed in enumerate(seeds)]
        paced = [sampling.generate(twins, 2, pace=_Pace())[0].tokens for _ in range(2)]
        assert (paced[0] == paced[1]) == same


class _Pace(Pace):
    """Lets all drafts go as far as they will."""

    def __init__(self) -> None:
        pass

    def lengths(self, choices):
        return [9] * len(choices)

    def learn(self, choices, asked, steps):
        pass


def test_a_pace_beside_a_correction_is_refused(engine):
    pace: Any = object()
    with pytest.raises(DecodingError, match="leave the pace out"):
        engine.generate(greedy_requests(None), pace=pace, correction=correction(*WAYS))


# Exact enumeration: two tokens, probabilities of quarters and halves, noise on a grid of four.
TARGET = torch.tensor([[0.75, 0.25], [0.5, 0.5]])
DRAFTS = {"a": torch.tensor([[0.5, 0.5], [1.0, 0.0]]), "b": torch.tensor([[0.0, 1.0], [1.0, 0.0]])}
GRID = torch.tensor([0.125, 0.375, 0.625, 0.875])
NOISES = 6


class Table(Model):
    """Drafts by a table from the last token, and says with what probabilities."""

    def __init__(self, table: torch.Tensor) -> None:
        super().__init__()
        self.table = table

    def propose(self, rows, k, noise):
        probs = self.table[[self.rows[row][-1] for row in rows]][:, None]
        tokens = (noise[:, :1] >= probs[:, :, 0]).long()
        return Proposal(tokens, torch.tensor([min(1, each) for each in k]), probs)


class TableModel:
    """In the place of `CachedModel`: states are tokens, logits are rows of the table."""

    def __init__(self) -> None:
        self.lengths: dict[int, int] = defaultdict(int)

    def forward(self, rows, tokens, counts, layers):
        return torch.nn.functional.one_hot(tokens, 2).float()

    def head(self, hidden):
        return (hidden @ TARGET).log()

    def rollback(self, row, length):
        pass


class Peeking(Table):
    """Proposes only those of its sampled tokens that it likes, which is not allowed."""

    def propose(self, rows, k, noise):
        honest = super().propose(rows, k, noise)
        return replace(honest, lengths=honest.lengths * (honest.tokens[:, 0] == 0))


def distribution(engine: Engine, monkeypatch: Any, course: Any) -> dict[Any, float]:
    """Exact distribution of three tokens after a first one, over all noise on the grid."""
    used: dict[int, int] = {}

    def noise(row: Row, count: int) -> torch.Tensor:
        drafting = count == 1 and row.draft_length > 0
        if not row.tokens or (drafting and row.choice == DraftChoice("b", 1)):
            # The first token and the drafts of `b` are certain, whatever the noise.
            return torch.zeros(count)
        at = used.get(row.request.seed, 0)
        used[row.request.seed] = at + count
        digits = [row.request.seed // 4**place % 4 for place in range(at, at + count)]
        return GRID[digits]

    monkeypatch.setattr(Row, "noise", noise)
    requests = [
        Request(str(i), (0,), 4, Sampling(1.0), seed=i, draft=DraftChoice("a", 1))
        for i in range(4**NOISES)
    ]
    steering = forced(course, *(Way(DraftChoice(name, 1), GOOD, 0.1) for name in "ab"))
    found: dict[Any, float] = defaultdict(float)
    for each in engine.generate(requests, 64, correction=steering):
        found[each.tokens] += 1 / len(requests)
    assert max(used.values()) <= NOISES
    return found


@pytest.mark.parametrize(
    ("kind", "course", "exact"),
    [
        (Table, [(0, 1), (1, 1)], True),
        (Table, [(None, 0), (1, 1), (0, 1)], True),
        (Peeking, [(0, 1), (1, 1)], False),
    ],
)
def test_switching_leaves_the_distribution_as_it_is(llama, monkeypatch, kind, course, exact):
    target = replace(llama, eos_token_ids=frozenset())
    engine = Engine(target, Rejection(), {name: kind(table) for name, table in DRAFTS.items()})
    model: Any = TableModel()
    engine.model = model
    monkeypatch.setattr(type(target), "vocabulary_size", 2)
    monkeypatch.setattr(type(target), "hidden_size", 2)
    found = distribution(engine, monkeypatch, course)
    differences = []
    for tail in itertools.product((0, 1), repeat=3):
        text, expected = (0, *tail), 1.0
        for before, after in itertools.pairwise(text):
            expected *= float(TARGET[before, after])
        differences.append(abs(found[text] - expected))
    assert (max(differences) < 1e-9) == exact
