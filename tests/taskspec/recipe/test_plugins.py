"""From a choice to a plugin with options."""

import pytest

from taskspec.errors import PluginError
from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin, make_plugin_options
from taskspec.recipe.schema import PartitionConfig


def test_options_are_converted_to_their_types(registry):
    choice = PluginChoice("kmeans", {"clusters": "5"})
    options = make_plugin_options(registry, "partitioner", choice)
    assert (options.clusters, options.most) == (5, 20)


def test_sections_with_fields_of_their_own_are_choices(registry):
    plugin = make_plugin(registry, "partitioner", PartitionConfig("kmeans", {"clusters": 5}))
    assert plugin.name == "kmeans"
    assert plugin.options.clusters == 5


def test_the_defaults_of_an_option_are_not_shared(registry):
    choice = PluginChoice("cut", {"layers": 1})
    first = make_plugin_options(registry, "drafter", choice)
    first.table["changed"] = 1
    assert make_plugin_options(registry, "drafter", choice).table == {}


def test_plugins_without_options_take_none(registry):
    with pytest.raises(PluginError, match="'lookup' has no such option. Options: none."):
        make_plugin(registry, "drafter", PluginChoice("lookup", {"length": 3}))


def test_everything_wrong_is_said_at_once(registry):
    choice = PluginChoice("kmeans", {"clusters": 0, "least": "few"})
    with pytest.raises(PluginError) as caught:
        make_plugin_options(registry, "partitioner", choice)
    assert str(caught.value) == (
        "options of partitioner 'kmeans': least: expected a whole number, found 'few'; "
        "clusters: clusters must be at least 1, not 0"
    )


def test_plugins_that_are_not_installed_are_named(registry):
    with pytest.raises(PluginError, match="no router named 'logistc'. Did you mean 'logistic'?"):
        make_plugin(registry, "router", PluginChoice("logistc"))
