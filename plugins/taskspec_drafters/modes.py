"""Modules in evaluation mode for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block; the mode before it comes back."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
