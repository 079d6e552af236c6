"""What in-flight correction needs to know of a bundle on the machine at hand."""

from __future__ import annotations

from taskspec.decoding.correction import Correction
from taskspec.decoding.cost import AcceptanceCurve, mean_curve, measure_draft, measure_target
from taskspec.decoding.experience import Experience
from taskspec.decoding.prices import Prices, Way
from taskspec.decoding.records import DraftChoice, Request
from taskspec.recipe.schema import CorrectionConfig
from taskspec.serving.bundle import Bundle
from taskspec.serving.calibration import measure_overhead

_REPEATS = 20
"""Fewer would let noise choose draft lengths."""


def correction_config(bundle: Bundle) -> CorrectionConfig:
    """What the bundle's recipe says of correction; off for bundles that say nothing."""
    return CorrectionConfig(**bundle.manifest.decode.get("correction", {}))


def measure_correction(
    bundle: Bundle, request: Request, rows: int = 1, config: CorrectionConfig | None = None
) -> Correction:
    """Measure here what drafts and target passes cost, within seconds.

    Args:
        bundle: A loaded bundle.
        request: A typical prompt, decoded plainly to measure the overhead.
        rows: Rows that will be decoded together.
        config: Share, grace, and whether answers learn from earlier ones, which they do as long as
            what is returned is used for them; None takes the recipe's.
    """
    config = config or correction_config(bundle)
    drafts = _drafts(bundle)
    longest = max((choice.draft_length for _, choice, _ in drafts), default=0)
    model, prompt, context = bundle.engine.model, request.prompt, bundle.target.context_length
    cost = measure_target(model, prompt, rows * (longest + 1), context, _REPEATS)
    overhead = measure_overhead(bundle.engine, request, cost, rows)
    ways = []
    for name, choice, curve in drafts:
        drafter = bundle.pool.drafters[choice.draft]
        entries = bundle.pool.entries
        members = frozenset(entries[member].key for member in entries[name].members)
        ways.append(
            Way(
                choice,
                curve,
                measure_draft(drafter, choice, bundle.target, prompt, request.sampling),
                watched=drafter.copies and choice.adapter is None,
                movable=not drafter.hidden_layers,
                members=members,
            )
        )
    experience = Experience() if config.experience else None
    prices = Prices(cost, overhead, rows)
    return Correction(prices, tuple(ways), config.share, config.grace, experience)


def _drafts(bundle: Bundle) -> list[tuple[str, DraftChoice, AcceptanceCurve]]:
    """What is known of each draft: a name of it, how to ask for it, and what it brings.

    A drafter serves a row in one way, so tasks that use a draft are taken together, whatever
    lengths they were measured up to: it is known up to the shortest of these.
    """
    curves: dict[tuple[str, str | None], list[AcceptanceCurve]] = {}
    names: dict[tuple[str, str | None], str] = {}
    manifest = bundle.manifest
    for each in (*manifest.tasks, manifest.fallback, *manifest.spares):
        if each.draft is not None and each.curve is not None:
            choice = bundle.pool.choice(each.draft, len(each.curve.block_efficiency))
            assert choice is not None
            key = choice.draft, choice.adapter
            curves.setdefault(key, []).append(each.curve)
            names[key] = each.draft
    means = {key: mean_curve(own) for key, own in curves.items()}
    return [
        (names[draft, adapter], DraftChoice(draft, len(curve.block_efficiency), adapter), curve)
        for (draft, adapter), curve in means.items()
    ]
