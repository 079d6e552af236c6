"""The kit itself: which checks there are, how failures show, expected failures."""

from __future__ import annotations

import pytest
from taskspec_routers.logistic import Logistic
from taskspec_verifiers.rejection import Rejection

from taskspec.registry import KINDS, default_registry
from taskspec.testing import ContractError, checks_for, parametrize_with_checks, run_checks


class SaysNothing(Logistic):
    """Breaks one rule: probabilities that do not sum to one."""

    name = "says-nothing"

    def predict_proba(self, inputs):
        return super().predict_proba(inputs) * 0.5


def outcomes(plugin, **kwargs):
    return {outcome.check.name: outcome for outcome in run_checks(plugin, **kwargs)}


def test_every_kind_has_checks_of_its_own():
    for kind in KINDS:
        record = next(r for r in default_registry().plugins() if r.kind == kind)
        own = [check for check in checks_for(record.plugin) if check.kind == kind]
        assert len(own) >= 5, kind


def test_every_check_states_its_rule():
    for record in default_registry().plugins():
        for check in checks_for(record.plugin):
            assert check.rule.endswith("."), check.name


def test_check_names_are_unique_within_a_kind():
    for record in default_registry().plugins():
        names = [check.name for check in checks_for(record.plugin)]
        assert len(names) == len(set(names))


def test_a_broken_rule_says_what_is_wrong():
    outcome = outcomes(SaysNothing())["probabilities"]
    assert not outcome.passed
    assert outcome.note == "rows do not sum to one"


def test_an_expected_failure_counts_as_passed_and_shows_its_reason():
    found = outcomes(SaysNothing(), expected_failures={"probabilities": "scores, by design"})
    assert found["probabilities"].passed
    assert found["probabilities"].note == "expected: scores, by design"


def test_an_expected_failure_that_passes_is_a_failure():
    found = outcomes(Rejection(), expected_failures={"verdict_shapes": "never"})
    assert not found["verdict_shapes"].passed


@pytest.mark.parametrize("expected", [{"no_such_check": "why"}, {"probabilities": " "}])
def test_expected_failures_must_name_a_check_and_a_reason(expected):
    with pytest.raises(ValueError, match="check is named|needs a reason"):
        parametrize_with_checks([SaysNothing()], {"says-nothing": expected})
    with pytest.raises(ValueError, match="not checked here"):
        parametrize_with_checks([SaysNothing()], {"other": {}})


def test_something_that_is_no_plugin_is_refused():
    with pytest.raises(TypeError, match="inherits from none"):
        checks_for(object)  # type: ignore[arg-type]


def test_checks_raise_contract_errors():
    check = next(c for c in checks_for(SaysNothing()) if c.name == "probabilities")
    with pytest.raises(ContractError):
        check(SaysNothing())
