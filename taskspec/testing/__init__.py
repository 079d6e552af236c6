"""The conformance kit: proves that a plugin keeps its kind's contract.

In a test module of a plugin's distribution:

```python
from taskspec.testing import parametrize_with_checks

@parametrize_with_checks([MyRouter()])
def test_contract(plugin, check):
    check(plugin)
```
"""

from taskspec.testing.check import (
    Check,
    ContractError,
    Outcome,
    checks_for,
    kind_of,
    run_checks,
)
from taskspec.testing.parametrize import parametrize_with_checks

__all__ = [
    "Check",
    "ContractError",
    "Outcome",
    "checks_for",
    "kind_of",
    "parametrize_with_checks",
    "run_checks",
]
