"""Every first-party plugin keeps its kind's contract."""

from __future__ import annotations

from typing import Any

import pytest
from taskspec_aligners.kd import KD
from taskspec_aligners.lora_kd import LoraKD, LoraKDOptions
from taskspec_drafters.cascade import Cascade, CascadeOptions
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_drafters.prompt_lookup import PromptLookup
from taskspec_drafters.suffix import Suffix
from taskspec_encoders.tfidf import Tfidf
from taskspec_partitioners.hdbscan import HdbscanOptions, HdbscanPartitioner
from taskspec_partitioners.kmeans import KMeansPartitioner
from taskspec_routers.knn import KNN
from taskspec_routers.logistic import Logistic
from taskspec_routers.mamba import Mamba
from taskspec_routers.mlp import MLP
from taskspec_verifiers.block import Block
from taskspec_verifiers.greedy import Greedy
from taskspec_verifiers.rejection import Rejection
from taskspec_verifiers.typical import Typical

from taskspec.registry import default_registry
from taskspec.testing import parametrize_with_checks

ALIGNERS = [KD(), LoraKD(LoraKDOptions(rank=4, alpha=8))]
FETCHES_A_MODEL = {"sentence", "llm-label"}
"""Held against the kit by benchmarks/contract.py, which fetches their models."""
PLUGINS = [
    Tfidf(),
    KMeansPartitioner(),
    HdbscanPartitioner(),
    HdbscanPartitioner(HdbscanOptions(dimensions=0)),
    Logistic(),
    MLP(),
    KNN(),
    Mamba(),
    Greedy(),
    Rejection(),
    Block(),
    Typical(),
]
DRAFTERS = [
    CausalLM(CausalLMOptions(layers=3)),
    CausalLM(CausalLMOptions(layers=2, vocabulary=24, mlp_width=40)),
    CausalLM(CausalLMOptions(layers=2, vocabulary=24, task_vocabulary=12)),
    CausalLM(CausalLMOptions(layers=3, vocabulary=24, stop_below=0.01, int8=True)),
    Feature(FeatureOptions(vocabulary=24)),
    Feature(FeatureOptions(vocabulary=24, task_vocabulary=12)),
    Feature(FeatureOptions(vocabulary=24, stop_below=0.01)),
    PromptLookup(),
    Suffix(),
    Cascade(),
    Cascade(CascadeOptions(drafts=["copier", "model"])),
]


@parametrize_with_checks(PLUGINS)
def test_plugins_keep_their_contract(plugin: Any, check: Any) -> None:
    check(plugin)


@parametrize_with_checks(DRAFTERS)
def test_drafters_keep_their_contract(plugin: Any, check: Any) -> None:
    check(plugin)


@pytest.mark.slow
@parametrize_with_checks(ALIGNERS)
def test_aligners_keep_their_contract(plugin: Any, check: Any) -> None:
    check(plugin)


def test_no_first_party_plugin_is_left_out() -> None:
    own = {
        record.name
        for record in default_registry().plugins()
        if record.distribution == "taskspec-decoding"
    }
    checked = {plugin.name for plugin in (*PLUGINS, *DRAFTERS, *ALIGNERS)}
    assert checked | FETCHES_A_MODEL == own
