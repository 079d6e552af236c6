"""Adapters of one draft may each have an output vocabulary of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from taskspec_aligners.lora_kd import LoraKD
from taskspec_drafters.causal_lm import CausalLM, CausalLMOptions
from taskspec_drafters.feature import Feature, FeatureOptions
from taskspec_drafters.task_vocabulary import columns_in, spread, task_vocabulary

from taskspec.interfaces import DraftCorpus, Sampling
from taskspec.models.loading import LanguageModel, load_language_model

LOW = DraftCorpus([], [tuple(range(10, 30)) * 2])
HIGH = DraftCorpus([], [tuple(range(50, 70)) * 2])
PROMPT = [2, 4, 12, 60, 5]


@pytest.fixture
def target(tiny_llama_folder: Path) -> LanguageModel:
    return load_language_model(str(tiny_llama_folder), device="cpu")


def test_a_task_keeps_the_tokens_it_uses_and_the_end() -> None:
    found = task_vocabulary(torch.arange(5, 90), 96, 22, LOW, always={7})
    assert found.tolist() == [5, 7, *range(10, 30)]
    assert len(task_vocabulary(None, 96, 30, HIGH, always={1})) == 30


def test_what_a_task_lacks_has_no_probability() -> None:
    columns = columns_in(torch.tensor([3, 5, 8, 9]), torch.tensor([5, 9]))
    assert spread(torch.tensor([[0.25, 0.75]]), columns, 4).tolist() == [[0, 0.25, 0, 0.75]]


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (CausalLM, CausalLMOptions(layers=2, vocabulary=80, task_vocabulary=24)),
        (CausalLM, CausalLMOptions(layers=2, task_vocabulary=24)),
        (Feature, FeatureOptions(vocabulary=80, task_vocabulary=24)),
    ],
)
def test_rows_with_different_adapters_draft_from_their_own_tokens(
    target: LanguageModel, tmp_path: Path, kind: Any, options: Any
) -> None:
    base = tmp_path / "base"
    base.mkdir()
    kind.build(target, DraftCorpus([], [tuple(range(90))]), options).save(base)
    serving = kind.load(base, target, options)
    own = {}
    for name, corpus in (("low", LOW), ("high", HIGH)):
        draft = kind.load(base, target, options)
        draft.specialise(corpus)
        own[name] = set(draft.vocabulary.tolist())
        aligner, folder = LoraKD(), tmp_path / name
        folder.mkdir()
        aligner.prepare(draft, seed=0)
        aligner.export(draft, folder)
        draft.save_adapter_extras(folder)
        serving.add_adapter(name, folder)
    assert len(own["low"]) == len(own["high"]) == 24 and own["low"] != own["high"]
    hidden = None
    if serving.hidden_layers:
        decoder: Any = target.model.get_decoder()  # type: ignore[operator]
        with torch.no_grad():
            hidden = decoder(input_ids=torch.tensor([PROMPT[:-1]])).last_hidden_state[0]
    for row, name in enumerate((None, "low", "high")):
        serving.start(row, PROMPT, Sampling(1.0), hidden, name)
    noise = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    made = serving.propose([0, 1, 2], [3, 3, 3], noise)
    size = target.vocabulary_size
    ids = torch.arange(size) if made.vocabulary is None else made.vocabulary
    torch.testing.assert_close(made.probs.sum(-1), torch.ones(3, 3))
    for row, name in ((1, "low"), (2, "high")):
        assert set(made.tokens[row].tolist()) <= own[name]
        likely = {int(ids[column]) for column in made.probs[row].sum(0).nonzero()[:, 0]}
        assert likely <= own[name]
        for place in range(3):
            column = int((ids == made.tokens[row, place]).nonzero())
            assert made.probs[row, place, column] > 0
