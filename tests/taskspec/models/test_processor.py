"""Products are computed in what the processor multiplies."""

import pytest
import torch

from taskspec.models import processor


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bf16_is_widened_where_its_products_would_be_emulated(monkeypatch, native, expected):
    monkeypatch.setattr(processor, "onednn_multiplies_bf16", lambda: native)
    values = torch.tensor([1.5, -2.0]).bfloat16()
    found = processor.multipliable(values)
    assert found.dtype == expected
    assert torch.equal(found.float(), values.float())


def test_other_dtypes_are_left_alone(monkeypatch):
    monkeypatch.setattr(processor, "onednn_multiplies_bf16", lambda: False)
    values = torch.tensor([1.5, -2.0], dtype=torch.float16)
    assert processor.multipliable(values) is values
