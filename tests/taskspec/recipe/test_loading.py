"""Loading recipes: what is accepted, and as what."""

import subprocess
import sys
from dataclasses import replace

import pytest

from taskspec.errors import RecipeError
from taskspec.recipe.alignment import AlignConfig
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.loading import load_recipe


def test_shortest_recipe_leaves_the_rest_to_defaults(load, minimal):
    recipe = load(minimal).recipe
    assert recipe.name == "trial"
    assert recipe.draft.pool == {"small": PluginChoice("cut", {"layers": 2})}
    assert recipe.align == AlignConfig()


def test_a_plugin_may_be_written_as_its_name_alone(load, minimal):
    recipe = load(f"{minimal}    other: lookup\npartition: hdbscan\n").recipe
    assert recipe.partition.use == "hdbscan"
    assert recipe.draft.pool["other"] == PluginChoice("lookup")


def test_a_section_keeps_its_default_plugin_when_only_options_are_given(load, minimal):
    recipe = load(f"{minimal}align: {{recovery: {{options: {{}}}}}}\n").recipe
    assert recipe.align.recovery.use == "kd"


def test_texts_that_look_like_dates_or_numbers_stay_text(load, minimal):
    recipe = load(minimal.replace("trial", "2026-01-01") + "runs: 12\n").recipe
    assert (recipe.name, recipe.runs) == ("2026-01-01", "12")


@pytest.mark.parametrize("name", ["010", "0x10", "2024_05_01", "1_000"])
def test_a_name_that_other_readers_take_for_a_number_stays_as_it_is_written(load, minimal, name):
    assert load(minimal.replace("trial", name)).recipe.name == name
    assert load(minimal, f"name={name}").recipe.name == name


def test_a_name_that_would_become_another_one_is_refused(load, minimal):
    for recipe, overrides in ((minimal.replace("trial", "1.10"), ()), (minimal, ("name=1.10",))):
        with pytest.raises(RecipeError, match="name: expected text, found 1.1; put it in quotes"):
            load(recipe, *overrides)
    assert load(minimal, "name='1.10'").recipe.name == "1.10"


def test_thousands_may_be_set_apart(load, minimal):
    assert load(minimal, "align.tokens=30_000").recipe.align.tokens == 30_000


def test_a_system_message_may_hold_anything(load, minimal):
    text = minimal.replace("some/model", "some/model, system: 'Fill in ${name}'")
    assert load(text).recipe.target.system == "Fill in ${name}"


def test_the_byte_order_mark_of_editors_is_ignored(load, minimal):
    assert load(b"\xef\xbb\xbf" + minimal.encode()).recipe.name == "trial"


class TestOverrides:
    def test_change_values_at_any_depth(self, load, minimal):
        recipe = load(
            minimal, "seed=7", "align.tokens=1000", "draft.pool.small.options.layers=4"
        ).recipe
        assert (recipe.seed, recipe.align.tokens) == (7, 1000)
        assert recipe.draft.pool["small"].options == {"layers": 4}

    def test_are_read_as_yaml_and_as_text_where_they_are_none(self, load, minimal):
        recipe = load(
            minimal, "assign.draft_lengths=[1, 2]", "target.system=@you: [be brief"
        ).recipe
        assert recipe.assign.draft_lengths == [1, 2]
        assert recipe.target.system == "@you: [be brief"

    def test_keep_equals_signs_in_the_value(self, load, minimal):
        assert load(minimal, "target.system=a=b").recipe.target.system == "a=b"

    def test_add_and_remove_drafts(self, load, minimal):
        pool = load(minimal, "draft.pool.other=lookup", "draft.pool.small=null").recipe.draft.pool
        assert pool == {"other": PluginChoice("lookup")}

    def test_merge_keys_into_keys(self, load, minimal):
        pool = load(minimal, "draft={pool: {other: lookup}}").recipe.draft.pool
        assert sorted(pool) == ["other", "small"]

    @pytest.mark.parametrize(
        "override", ["partition=hdbscan", "partition.use=hdbscan", "partition={use: hdbscan}"]
    )
    def test_naming_another_plugin_drops_the_options_of_the_first(self, load, minimal, override):
        text = f"{minimal}partition: {{use: kmeans, noise: drop, options: {{clusters: 5}}}}\n"
        partition = load(text, override).recipe.partition
        assert (partition.use, partition.options, partition.noise) == ("hdbscan", {}, "drop")

    def test_naming_another_plugin_with_options_takes_those(self, load, minimal):
        other = "draft.pool.small={options: {drafts: [other]}, use: several}"
        pool = load(minimal, other, "draft.pool.other=lookup").recipe.draft.pool
        assert pool["small"] == PluginChoice("several", {"drafts": ["other"]})

    def test_reach_into_a_plugin_written_as_its_name_alone(self, load, minimal):
        text = f"{minimal}partition: kmeans\n"
        partition = load(text, "partition.options.clusters=5").recipe.partition
        assert (partition.use, partition.options) == ("kmeans", {"clusters": 5})

    def test_the_last_one_counts(self, load, minimal):
        assert load(minimal, "seed=1", "seed=2").recipe.seed == 2

    def test_change_one_of_several_sections_that_share_an_alias(self, load, minimal):
        text = minimal.replace("{use: cut", "&first {use: cut") + "    other: *first\n"
        pool = load(text, "draft.pool.other.options.layers=9").recipe.draft.pool
        assert (pool["small"].options, pool["other"].options) == ({"layers": 2}, {"layers": 9})

    @pytest.mark.parametrize(
        ("override", "message"),
        [
            ("seed", "override seed: write overrides as key=value"),
            ("=3", "override =3: write overrides as key=value"),
            ("align..tokens=3", "override align..tokens=3: write overrides as key=value"),
            ("seed.x=3", "override seed: expected a whole number, found keys and values"),
            ("name.x=3", "override name.x: 'name' holds a value, not keys"),
            ("sed=3", "override sed: no such key. Did you mean 'seed'?"),
            ("seed=x", "override seed: expected a whole number, found 'x'"),
            ("partition.use=kmean", "override partition.use: no partitioner named 'kmean'."),
            ("partition=kmean", "override partition.use: no partitioner named 'kmean'."),
            ("corpus.path=none.jsonl", "override corpus.path: no file none.jsonl"),
            ("decode.temperature=1", "override decode.temperature: the verifier 'greedy'"),
            ("draft.pool.small=null", "override draft.pool: pool must name at least one draft"),
        ],
    )
    def test_mistakes_in_them_say_so(self, problems, minimal, override, message):
        found = problems(minimal, override)
        assert len(found) == 1
        assert found[0].startswith(message)


def test_the_resolved_text_loads_as_an_equal_recipe_with_the_same_prompts(load, folder, minimal):
    first = load(minimal, "partition=hdbscan", "align.learning_rate=1e-5")
    again = load(first.text)
    prompts = replace(first.recipe.corpus, path=str((folder / "prompts.jsonl").resolve()))
    assert again.recipe == replace(first.recipe, corpus=prompts)
    assert again.text == first.text


def test_relative_paths_start_at_the_recipes_folder(folder, registry, minimal):
    (folder / "sub").mkdir()
    (folder / "sub" / "near.jsonl").touch()
    text = minimal.replace("prompts.jsonl", "near.jsonl")
    (folder / "sub" / "my.yaml").write_text(text)
    loaded = load_recipe("sub/my.yaml", [], registry)
    assert loaded.folder is not None and (loaded.folder / "near.jsonl").is_file()


def test_validating_a_recipe_needs_no_torch():
    check = "import sys, taskspec.recipe.loading; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)
