"""What `new-plugin` copies keeps the contract it teaches."""

from __future__ import annotations

from typing import Any

import pytest

from taskspec.templates import aligner, drafter, encoder, partitioner, router, verifier
from taskspec.testing import parametrize_with_checks


@parametrize_with_checks(
    [
        encoder.MyPlugin(),
        partitioner.MyPlugin(),
        drafter.MyPlugin(),
        router.MyPlugin(),
        verifier.MyPlugin(),
    ]
)
def test_templates_keep_the_contract(plugin: Any, check: Any) -> None:
    check(plugin)


@pytest.mark.slow
@parametrize_with_checks([aligner.MyPlugin(), aligner.MyPlugin(aligner.MyPluginOptions(0.5))])
def test_the_aligner_keeps_the_contract(plugin: Any, check: Any) -> None:
    check(plugin)
