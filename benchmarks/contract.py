"""Every installed plugin against the conformance kit, as a Markdown table.

    python benchmarks/contract.py

Drafts that draft with others get the kit's own; models that must be fetched are left out unless
named with their options: `python benchmarks/contract.py sentence model=all-minilm-l6-v2`.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import yaml

from taskspec.recipe.choice import PluginChoice
from taskspec.recipe.plugins import make_plugin
from taskspec.registry import default_registry
from taskspec.testing import run_checks

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "causal-lm": [{"layers": 3}, {"layers": 2, "vocabulary": 24, "mlp_width": 40}],
    "feature": [{"vocabulary": 24}],
    "cascade": [{"drafts": ["copier", "model"]}],
    "lora-kd": [{"rank": 4, "alpha": 8}],
    "hdbscan": [{}, {"dimensions": 0}],
}
NEEDS_A_MODEL = ("sentence", "llm-label")


def rows(names: list[str], options: dict[str, Any]) -> None:
    """Print one line per plugin and set of options."""
    registry = default_registry()
    for record in registry.plugins():
        if names and record.name not in names or not names and record.name in NEEDS_A_MODEL:
            continue
        for chosen in [options] if options else OPTIONS.get(record.name, [{}]):
            choice = PluginChoice(record.name, dict(chosen))
            started = time.perf_counter()
            outcomes = list(run_checks(make_plugin(registry, record.kind, choice)))
            failed = [f"{each.check.name}: {each.note}" for each in outcomes if not each.passed]
            shown = ", ".join(f"{key}={value}" for key, value in chosen.items()) or "defaults"
            passed = f"{len(outcomes) - len(failed)} of {len(outcomes)}"
            seconds = time.perf_counter() - started
            verdict = "; ".join(failed) or "–"
            cells = (record.kind, f"`{record.name}`", shown, passed, verdict, f"{seconds:.0f} s")
            print("|", " | ".join(cells), "|", flush=True)


def main() -> None:
    """Print the table."""
    names = [word for word in sys.argv[1:] if "=" not in word]
    given = dict(word.split("=", 1) for word in sys.argv[1:] if "=" in word)
    print("| kind | plugin | options | rules kept | broken | took |\n|---|---|---|---|---|---|")
    rows(names, {key: yaml.safe_load(value) for key, value in given.items()})


if __name__ == "__main__":
    main()
