"""What the report says in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskspec.evaluation.table import ResultRow, Results, lossy_warning

_MINUTE = 60
_UNITS = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


def headline(results: Results) -> str:
    """What was gained, and whether the answers are the same."""
    row = results.row("routed")
    return f"{_gain(row)}, {_kept(results)}."


def _gain(row: ResultRow | None) -> str:
    if row is None:
        return "No speed was measured"
    if row.speedup_low > 1:
        return f"Answers come {row.speedup:.2f} times as fast"
    if row.speedup_high < 1:
        return f"Answers come slower, at {row.speedup:.2f} times the speed"
    return f"No gain is shown, at {row.speedup:.2f} times the speed"


def _kept(results: Results) -> str:
    lossless = results.lossless
    if not results.verifier.lossless:
        return f"and the verifier {results.verifier.name} changes what is said"
    if lossless.checked == 0:
        return "and whether they stayed the same was not checked"
    if lossless.mismatches:
        return f"but {lossless.mismatches} of {lossless.checked} answers differ"
    return f"and all {lossless.checked} greedy answers compared in {lossless.dtype} are the same"


def lead(results: Results) -> str:
    """The figures behind the headline."""
    row, lossless = results.row("routed"), results.lossless
    parts = []
    if row is not None:
        parts.append(
            f"On {row.prompts} held-out prompts, {row.tokens:,} tokens, decoding with a draft per "
            f"task was {speedup(row.speedup)} as fast as plain decoding in the same engine "
            f"(95 % interval {row.speedup_low:.2f} to {row.speedup_high:.2f})."
        )
    if lossless.checked:
        same = lossless.checked - lossless.mismatches
        parts.append(
            f"{same} of {lossless.checked} greedy answers in {lossless.dtype} are identical to "
            "plain decoding's, token for token."
        )
    if not results.verifier.lossless:
        parts.append(lossy_warning(results.verifier.name) + ".")
    return " ".join(parts)


def how_chosen(assign: Mapping[str, Any]) -> str:
    """How drafts were chosen, by the recipe's `assign` section."""
    parts = [
        "For each task, the cost model ruled out the drafts that cannot pay, and the most "
        "promising others were timed against plain decoding on validation prompts."
    ]
    clearly = f"Of those whose interval lies at or above {assign['margin']:g}× plain decoding"
    if assign["objective"] == "memory":
        kept = f"{100 * assign['memory_share']:.0f} %"
        parts.append(f"{clearly}, the smallest that keeps {kept} of the fastest one's was chosen.")
    elif assign["objective"] == "latency":
        parts.append(
            f"{clearly}, the one was chosen that shortens the mean answer most, or a smaller one "
            "that may be as fast. Speed-ups on validation prompts are means over answers, those on "
            "held-out prompts are of all tokens together."
        )
    else:
        parts.append(f"{clearly}, the fastest was chosen, or a smaller one that may be as fast.")
    if assign["max_memory"] is not None:
        parts.append(f"All together had to fit in {assign['max_memory']:g} MB.")
    return " ".join(parts)


def speedup(value: float) -> str:
    """A speed-up, such as `1.34×`."""
    return f"{value:.2f}×"


def duration(seconds: float) -> str:
    """Seconds, or minutes and seconds."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 2 * _MINUTE:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), _MINUTE)
    hours, minutes = divmod(minutes, _MINUTE)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def bytes_text(size: float) -> str:
    """Bytes in decimal units."""
    for unit, name in _UNITS:
        if float(f"{size / unit:.3g}") >= 1:
            return f"{size / unit:.3g} {name}"
    return f"{size:.0f} B"
