"""Which other engines a benchmark runs, and with what."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from taskspec.evaluation.bench_engines import EnginePlan
    from taskspec.serving.bundle import Bundle

ASSISTED_LENGTH = 4
_ON_CPU = ("llama.cpp", "openvino")
"""Engines that are asked for the CPU."""


def other_engines(
    bundle: Bundle,
    against: str,
    pythons: Sequence[str],
    assistant: str | None,
    gguf: Path | None,
    scratch: Path,
    console: Console,
) -> dict[str, EnginePlan]:
    """The wanted engines that are there, by the name of the method; others are said.

    Args:
        bundle: Says which target.
        against: The wanted engines, by commas.
        pythons: ENGINE=INTERPRETER for those that another interpreter has.
        assistant: A draft of the bundle, for engines that take one.
        gguf: The target's weights in that format, where the catalog has none.
        scratch: Room for the assistant as transformers reads it.
        console: Where what is left out is said.

    Raises:
        TaskSpecError: For an unknown engine, or an assistant that others cannot read.
    """
    import torch

    from taskspec.errors import TaskSpecError
    from taskspec.evaluation.bench_engines import MODULES, EnginePlan

    given = dict(each.partition("=")[::2] for each in pythons)
    wanted = [name.strip() for name in against.split(",") if name.strip()]
    for name in (*wanted, *given):
        if name not in MODULES:
            raise TaskSpecError(f"unknown engine '{name}'; choose among {', '.join(MODULES)}")
    if unused := [name for name in given if name not in wanted]:
        raise TaskSpecError(f"--python: {unused[0]} is not among --against; name it there, too")
    dtype, device = str(bundle.target.dtype).removeprefix("torch."), bundle.target.device
    common = {"dtype": dtype, "device": str(device), "threads": torch.get_num_threads()}
    draft = None if assistant is None else _export(bundle, assistant, scratch)
    found: dict[str, EnginePlan] = {}
    for name in wanted:
        if device.type != "cpu" and name in _ON_CPU:
            console.print(f"{name} is left out; it runs on the CPU, the target on {device}")
            continue
        python = {"python": given[name]} if name in given else {}
        ways = _ways(bundle, name, draft, gguf)
        plans = {way: EnginePlan(name, common | own, **python) for way, own in ways.items()}
        if not plans:
            need = "a draft: --assistant NAME" if name == "flashspec" else "weights: --gguf FILE"
            console.print(f"{name} is left out; it needs {need}")
        elif not all(plan.installed for plan in plans.values()):
            module = MODULES[name].replace("_", "-")
            console.print(f"{name} is left out: pip install {module}")
        else:
            found |= plans
    return found


def _ways(
    bundle: Bundle, name: str, draft: str | None, gguf: Path | None
) -> dict[str, dict[str, Any]]:
    """How an engine answers: the name of each way, and its settings."""
    from taskspec.evaluation.bench_gguf import at_precision, catalog_gguf
    from taskspec.models.loading import model_place

    if name in ("llama.cpp", "openvino"):
        source = gguf or catalog_gguf(bundle.manifest.target)
        if source is None:
            return {}
        if name == "openvino":
            return {"openvino, f16": {"model": str(at_precision(source, "f16"))}}
        kind = source.stem.rpartition(".")[2]
        files = {"llama.cpp, bf16": at_precision(source, "bf16"), f"llama.cpp, {kind}": source}
        return {way: {"model": str(file)} for way, file in files.items()}
    model = {"model": str(model_place(bundle.target.source))}
    assisted = {**model, "assistant": draft, "length": ASSISTED_LENGTH}
    with_draft = {} if draft is None else {f"{name}, assisted {ASSISTED_LENGTH}": assisted}
    if name == "flashspec":
        return with_draft
    if name == "vllm":
        return {"vllm": model}
    lookup = {f"{name}, prompt lookup {ASSISTED_LENGTH}": {**model, "lookup": ASSISTED_LENGTH}}
    return {name: model, **lookup, **with_draft}


def _export(bundle: Bundle, name: str, folder: Path) -> str:
    """Write a draft as transformers reads one."""
    from transformers import PreTrainedModel

    from taskspec.errors import TaskSpecError
    from taskspec.models.quiet import quiet_transformers

    entry = bundle.pool.entries.get(name)
    if entry is None:
        known = ", ".join(sorted(bundle.pool.entries)) or "none"
        raise TaskSpecError(f"--assistant: the bundle has no draft '{name}'; it has {known}")
    module: Any = getattr(bundle.pool.drafters[entry.key], "module", None)
    untyped, whole = module, bundle.target.vocabulary_size
    if (
        not isinstance(module, PreTrainedModel)
        or entry.adapter is not None
        or untyped.get_output_embeddings().weight.shape[0] != whole
    ):
        raise TaskSpecError(
            f"--assistant: other engines cannot read '{name}'; it must be a causal language model "
            "without adapter over the whole vocabulary (option vocabulary: 0)"
        )
    with quiet_transformers():
        module.save_pretrained(folder)
    return str(folder)
