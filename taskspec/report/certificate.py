"""A certificate of losslessness as a report shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from taskspec.errors import ArtifactError
from taskspec.evaluation.certificate import FaultFinding, GreedyFinding, SampledFinding
from taskspec.report.facts import CertificateShown, CertificateTest


def read_certificate(value: Mapping[str, Any]) -> CertificateShown:
    """What `taskspec certify --out` wrote.

    Raises:
        ArtifactError: When it is something else.
    """
    try:
        greedy = [GreedyFinding(**each) for each in value["greedy"]]
        sampled = [SampledFinding(**each) for each in value["sampled"]]
        faults = [FaultFinding(**each) for each in value["faults"]]
        rules = value["verifier"]["rules"]
        broken = [rule for rule in rules if not rule["passed"]]
        tests = [
            *(_greedy(each) for each in greedy),
            *(_sampled(each) for each in sampled),
            CertificateTest(
                f"rules of the verifier {value['verifier']['name']}",
                f"{len(rules)} rules",
                f"{len(rules) - len(broken)} hold",
                not broken,
            ),
        ]
        shown = tuple((each.fault, each.caught) for each in faults)
        asked = (len(value["prompts"]), str(value["corpus"])) if "corpus" in value else None
        return CertificateShown(
            bool(value["passed"]),
            tuple(tests),
            shown,
            value["verifier"]["name"],
            value["bundle"],
            asked,
        )
    except (KeyError, TypeError) as error:
        raise ArtifactError(
            f"certificate.json is not what taskspec certify writes ({error}); "
            "remove it, or make it again with taskspec certify --out"
        ) from None


def _greedy(found: GreedyFinding) -> CertificateTest:
    ties = f"; {found.ties} ties" if found.ties else ""
    return CertificateTest(
        f"greedy answers, {found.dtype}",
        f"{found.combinations:,} prompts × settings",
        f"{len(found.mismatches)} differ{ties}",
        found.passed,
    )


def _sampled(found: SampledFinding) -> CertificateTest:
    return CertificateTest(
        f"sampled, temperature {found.temperature:g}, top-k {found.top_k}, top-p {found.top_p:g}",
        f"{found.tokens:,} tokens of {found.answers:,} answers",
        f"p = {found.p_value:.3g}, {found.impossible} impossible",
        found.passed,
    )
