"""What learns from one request what it does for another judges it by other noise."""

from __future__ import annotations

from taskspec.decoding.own_noise import own_noise
from taskspec.decoding.records import Request
from taskspec.interfaces import Sampling


def test_requests_that_sample_never_share_a_seed_and_greedy_ones_keep_theirs() -> None:
    sampled = [Request("0", (1,), 4, Sampling(0.7), seed) for seed in (0, 0, 1, 1)]
    seeds = {own_noise(each).seed for each in sampled * 2}
    assert len(seeds) == 8 and all(0 <= seed < 2**63 for seed in seeds)
    assert own_noise(Request("0", (1,), 4, seed=5)).seed == 5
