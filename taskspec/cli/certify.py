"""`taskspec certify`: show that a bundle's answers are the target's own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from taskspec.cli.held_out import held_out_prompts
from taskspec.cli.sampling_options import SEEDS
from taskspec.cli.target_option import TargetOption

if TYPE_CHECKING:
    from rich.console import Console

    from taskspec.decoding.records import Request
    from taskspec.evaluation.certificate import Certificate
    from taskspec.evaluation.certify import Plan
    from taskspec.interfaces import Verifier
    from taskspec.registry import Registry
    from taskspec.serving.bundle import Bundle
    from taskspec.testing.check import Outcome


def certify(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder of a finished run.")],
    corpus: Annotated[
        str, typer.Option(help="Prompts; those of their test split are answered.")
    ] = "package:prompts/quickstart.jsonl",
    count: Annotated[int, typer.Option(help="Prompts, spread over the tasks.", min=1)] = 40,
    tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", min=2)] = 32,
    lengths: Annotated[str, typer.Option(help="Draft lengths, by commas.")] = "1,3,7",
    batch_sizes: Annotated[str, typer.Option(help="Batch sizes, by commas.")] = "1,8",
    draws: Annotated[
        int, typer.Option(help="Sampled answers for each prompt and draft.", min=1)
    ] = 4,
    verifier: Annotated[
        str | None, typer.Option(help="Certify this verifier instead of the bundle's.")
    ] = None,
    seed: Annotated[
        int, typer.Option(**SEEDS, help="Draws prompts, and splits where rows have none.")
    ] = 0,
    out: Annotated[Path | None, typer.Option(help="Write the certificate there, as JSON.")] = None,
    target: TargetOption = None,
) -> None:
    """Certify that drafts change nothing that is said; exit code 1 when they do.

    Greedy answers with every draft, length and batch size are compared with plain decoding, in
    float32 and as served; sampled ones are held against the target's own distribution; the
    verifier's rules are enumerated on a small vocabulary. Faults planted in the engine show what
    the tests would have seen.

    Examples:

        taskspec certify runs/quickstart/bundle

        taskspec certify runs/quickstart/bundle --count 10 --lengths 4 --out certificate.json
    """
    from rich.console import Console

    from taskspec.decoding.records import Request
    from taskspec.errors import TaskSpecError
    from taskspec.evaluation.certify import Plan
    from taskspec.files import check_output
    from taskspec.registry import default_registry
    from taskspec.serving.bundle import load_bundle

    if out is not None:
        check_output(out)
    console, registry = Console(), default_registry()
    ks, sizes = _numbers("--lengths", lengths), _numbers("--batch-sizes", batch_sizes)
    plan = Plan(ks, sizes, draws)
    loaded = load_bundle(bundle, registry, target)
    chosen = loaded.engine.verifier if verifier is None else _verifier(registry, verifier)
    if not chosen.lossless:
        raise TaskSpecError(
            f"verifier '{chosen.name}' is not lossless, and does not claim to be: there is nothing "
            "to certify; choose another in the recipe's decode.verifier, or with --verifier"
        )
    if not loaded.pool.entries:
        raise TaskSpecError(f"{bundle} decodes every task plainly: no draft could change anything")
    prompts = held_out_prompts(loaded, bundle, corpus, count, tokens, seed, console)
    requests = [Request(each.id, each.ids, tokens) for each in prompts]
    certificate = _examine(loaded, registry, chosen, requests, plan, console)
    outcomes = _enumerated(chosen)
    if out is not None:
        asked = {"corpus": corpus, "prompts": [each.id for each in prompts]}
        _write(certificate, bundle, asked, chosen.name, outcomes, out)
    _show(certificate, chosen.name, outcomes, console)
    if not certificate.passed or not all(each.passed for each in outcomes):
        raise typer.Exit(1)


def _numbers(option: str, text: str) -> tuple[int, ...]:
    from taskspec.errors import TaskSpecError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdigit() and int(part) > 0 for part in parts):
        raise TaskSpecError(f"{option} takes whole numbers from 1 on, by commas, not '{text}'")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _verifier(registry: Registry, name: str) -> Verifier:
    from taskspec.interfaces import Verifier
    from taskspec.recipe.choice import PluginChoice
    from taskspec.recipe.plugins import make_plugin

    made = make_plugin(registry, "verifier", PluginChoice(use=name))
    assert isinstance(made, Verifier)
    return made


def _examine(
    bundle: Bundle,
    registry: Registry,
    verifier: Verifier,
    prompts: list[Request],
    plan: Plan,
    console: Console,
) -> Certificate:
    """Run all tests on the target, and show how far they are."""
    from taskspec.evaluation.certify import certify as examine
    from taskspec.pipeline.progress import progress

    def watched(steps: int) -> AbstractContextManager[Callable[[int], None]]:
        return progress(console, "certifying", steps)

    return examine(bundle, registry, verifier, prompts, plan, _broken_rules, watched)


def _broken_rules(verifier: Verifier) -> tuple[str, ...]:
    """Names of the rules of verifiers that this one breaks."""
    from taskspec.testing.check import run_checks

    outcomes = run_checks(verifier)
    return tuple(each.check.name for each in outcomes if _of_verifiers(each) and not each.passed)


def _of_verifiers(outcome: Outcome) -> bool:
    return outcome.check.kind == "verifier"


def _enumerated(verifier: Verifier) -> list[Outcome]:
    from taskspec.testing.check import run_checks

    return [each for each in run_checks(verifier) if _of_verifiers(each)]


def _show(found: Certificate, verifier: str, outcomes: list[Outcome], console: Console) -> None:
    from rich.table import Table

    from taskspec.evaluation.certificate import LEAST_P_VALUE

    tests = Table("test", "compared", "found", "")
    for greedy in found.greedy:
        ties = f"; {greedy.ties} ties" if greedy.dtype != "float32" else ""
        tests.add_row(
            f"greedy answers, {greedy.dtype}",
            f"{greedy.combinations:,} prompts x settings",
            f"{len(greedy.mismatches)} mismatches{ties}",
            _mark(greedy.passed),
        )
    for sampled in found.sampled:
        tests.add_row(
            f"sampled, temperature {sampled.temperature:g}, top-k {sampled.top_k}, "
            f"top-p {sampled.top_p:g}",
            f"{sampled.tokens:,} tokens of {sampled.answers:,} answers",
            f"p = {sampled.p_value:.3g} (fails below {LEAST_P_VALUE:g})",
            _mark(sampled.passed),
        )
    failed = [each for each in outcomes if not each.passed]
    rules = f"{len(outcomes) - len(failed)} hold"
    tests.add_row(f"verifier {verifier}", f"{len(outcomes)} rules", rules, _mark(not failed))
    console.print(tests)
    planted = Table("planted fault", "greedy answers", "sampled answers", "rules", "")
    for fault in found.faults:
        p = "not tested" if fault.p_value is None else f"p = {fault.p_value:.2g}"
        differing = f"{fault.mismatches} of {fault.answers} differ"
        rules = "-" if fault.broken_rules is None else f"{len(fault.broken_rules)} broken"
        planted.add_row(fault.fault, differing, p, rules, "caught" if fault.caught else "missed")
    console.print(planted)
    for where in [each for greedy in found.greedy for each in greedy.mismatches][:10]:
        console.print(f"differs: {where}", highlight=False, markup=False)
    for outcome in failed:
        console.print(f"{outcome.check.name}: {outcome.note}", highlight=False, markup=False)
    console.print("certified" if found.passed and not failed else "not certified")


def _mark(passed: bool) -> str:
    return "passed" if passed else "failed"


def _write(
    found: Certificate,
    bundle: Path,
    asked: dict[str, Any],
    verifier: str,
    outcomes: list[Outcome],
    path: Path,
) -> None:
    import json
    from dataclasses import asdict

    from taskspec.pipeline.artifacts import read_done, write_atomically
    from taskspec.pipeline.environment import describe_environment
    from taskspec.registry import default_registry

    rules = [
        {"rule": each.check.name, "passed": each.passed, "note": each.note} for each in outcomes
    ]
    mark = read_done(bundle)
    value = {
        "bundle": None if mark is None else mark.result,
        "passed": found.passed and all(each.passed for each in outcomes),
        **asdict(found),
        **asked,
        "verifier": {"name": verifier, "rules": rules},
        "environment": describe_environment(default_registry()),
    }
    write_atomically(path, json.dumps(value, indent=2) + "\n")
