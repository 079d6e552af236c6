"""The law that a run folder's recipe says exactly what was run."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskspec.recipe.alignment import AlignConfig, SearchConfig, TrainerConfig
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import dump_recipe, load_recipe
from taskspec.recipe.schema import (
    AssignConfig,
    CollectConfig,
    CorpusConfig,
    DecodeConfig,
    DraftConfig,
    EncodeConfig,
    EvaluateConfig,
    PartitionConfig,
    Recipe,
    RouteConfig,
    TargetConfig,
)

counts = st.integers(16, 10**9)
rates = st.floats(1e-12, 1e6)
# YAML cannot hold lone surrogates; recipes refuse `${` in options and `???` everywhere.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="$"), min_size=1)
texts = texts.filter(lambda text: text != "???")
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)
plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | texts
    | st.just(""),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
drafts = st.one_of(
    st.just(PluginChoice("lookup")),
    st.builds(
        PluginChoice,
        st.just("cut"),
        st.fixed_dictionaries(
            {"layers": counts},
            optional={"extra": plain, "table": st.dictionaries(texts, plain, max_size=3)},
        ),
    ),
)
trainers = st.builds(
    TrainerConfig,
    devices=st.sampled_from(["auto", "1", "8"]),
    strategy=st.sampled_from(["auto", "ddp_spawn"]),
    precision=st.sampled_from(["auto", "32-true", "bf16-mixed", "16", "64"]),
    gradient_clip_val=rates,
)
aligns = st.builds(
    AlignConfig,
    use=st.sampled_from(["kd", "lora-kd"]),
    tokens=counts,
    shared=st.floats(0, 1, exclude_max=True),
    recovery=st.just(PluginChoice("kd")),
    batch_tokens=counts,
    learning_rate=rates,
    recovery_learning_rate=rates,
    warmup=st.floats(0, 1),
    weight_decay=rates,
    search=st.builds(SearchConfig, rounds=st.integers(1, 9), tokens=st.none() | counts),
    trainer=trainers,
)
decodes = st.builds(
    DecodeConfig,
    verifier=st.just(PluginChoice("rejection")),
    temperature=st.floats(0, 10),
    top_k=counts,
    top_p=st.floats(0.01, 1),
)
recipes = st.builds(
    Recipe,
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,8}", fullmatch=True),
    target=st.builds(TargetConfig, model=texts, system=st.none() | st.text("${}?: \n\x85é'\"")),
    corpus=st.builds(
        CorpusConfig,
        path=st.just("prompts.jsonl"),
        validation_share=st.floats(0.01, 0.49),
        limit=st.none() | counts,
    ),
    collect=st.builds(CollectConfig, batch_size=counts),
    encode=st.builds(EncodeConfig, text=st.sampled_from(["prompt", "prompt+answer"])),
    partition=st.builds(
        PartitionConfig, options=st.fixed_dictionaries({}, optional={"clusters": counts})
    ),
    draft=st.builds(DraftConfig, st.dictionaries(names, drafts, min_size=1, max_size=3)),
    align=aligns,
    assign=st.builds(AssignConfig, draft_lengths=st.lists(counts, min_size=1), margin=rates),
    route=st.builds(RouteConfig, threshold=st.floats(0, 1) | st.just("auto")),
    decode=decodes,
    evaluate=st.builds(EvaluateConfig, repeats=counts),
    runs=texts,
    seed=st.integers(0, 2**32 - 1),
    threads=st.none() | counts,
)


def with_aligners(recipe):
    """The recipe with an aligner of their own for some of its drafts."""
    own = {name: PluginChoice("kd") for name in list(recipe.draft.pool)[: recipe.seed % 3]}
    return dataclasses.replace(recipe, align=dataclasses.replace(recipe.align, drafts=own))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "prompts.jsonl").touch()
    return folder / "my.yaml"


@settings(deadline=None)
@given(recipe=recipes.map(with_aligners))
def test_a_dumped_recipe_loads_as_an_equal_one(recipe, place, registry):
    place.write_bytes(dump_recipe(recipe).encode())
    loaded = load_recipe(str(place), [], registry)
    assert loaded.recipe == recipe
    prompts = str(place.with_name("prompts.jsonl").resolve())
    corpus = dataclasses.replace(recipe.corpus, path=prompts)
    assert loaded.text == dump_recipe(dataclasses.replace(recipe, corpus=corpus))


def sections(schema):
    """A schema dataclass and those of its fields."""
    yield schema
    for field in dataclasses.fields(schema):
        default = field.default_factory
        if isinstance(default, type) and dataclasses.is_dataclass(default):
            yield from sections(default)


@pytest.mark.parametrize("schema", list(sections(Recipe)), ids=lambda schema: schema.__name__)
def test_every_field_is_documented(schema):
    documented = "".join(base.__doc__ or "" for base in schema.__mro__[:-1])
    for field in dataclasses.fields(schema):
        is_section = field.default_factory in list(sections(Recipe))
        assert is_section or f"\n        {field.name}: " in documented, field.name
