"""Other engines on the same weights, prompts and token counts as ours.

None of them is a dependency: one that is not installed is left out and named.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from taskspec.models.loading import LanguageModel
from taskspec.models.quiet import quiet_transformers

Generate = Callable[[Sequence[int], int], int]
"""Answers a prompt greedily with exactly so many tokens, whatever ends come; how many it wrote."""


def transformers_generate(target: LanguageModel, **settings: Any) -> Generate:
    """`generate` of transformers, with its own speculation where the settings ask for it.

    Args:
        target: The model.
        settings: `assistant_model` or `prompt_lookup_num_tokens`.
    """
    model: Any = target.model

    def generate(prompt: Sequence[int], tokens: int) -> int:
        ids = torch.tensor([list(prompt)], device=target.device)
        with quiet_transformers():
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=tokens,
                min_new_tokens=tokens if not settings else None,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
                **settings,
            )
        return int(output.shape[1] - ids.shape[1])

    return generate


def assistant(folder: str, target: LanguageModel, draft_length: int) -> Any:
    """A draft for transformers' assisted generation, which proposes `draft_length` each time."""
    from taskspec.models.loading import load_language_model

    dtype = str(target.dtype).removeprefix("torch.")
    model: Any = load_language_model(folder, dtype, str(target.device)).model
    config = model.generation_config
    config.num_assistant_tokens = draft_length
    config.num_assistant_tokens_schedule = "constant"
    config.assistant_confidence_threshold = 0
    config.eos_token_id = None
    return model


def llama_cpp_generate(file: Path, threads: int) -> Generate:
    """llama.cpp by its Python binding xllamacpp.

    Args:
        file: A GGUF file.
        threads: Threads.

    Raises:
        ImportError: When xllamacpp is not installed.
    """
    import xllamacpp

    params: Any = xllamacpp.CommonParams()
    params.model.path = str(file)
    params.n_ctx, params.n_parallel = 4096, 1
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads
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


def openvino_generate(file: Path, threads: int) -> Generate:
    """OpenVINO GenAI on a GGUF file in float16.

    Raises:
        ImportError: When openvino-genai is not installed.
    """
    import numpy as np
    import openvino
    import openvino_genai

    pipeline: Any = openvino_genai.LLMPipeline(str(file), "CPU", INFERENCE_NUM_THREADS=threads)

    def generate(prompt: Sequence[int], tokens: int) -> int:
        config: Any = openvino_genai.GenerationConfig()
        config.max_new_tokens, config.ignore_eos, config.do_sample = tokens, True, False
        ids = np.array([list(prompt)], dtype=np.int64)
        inputs = openvino_genai.TokenizedInputs(
            openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids))
        )
        return len(pipeline.generate(inputs, config).tokens[0])

    return generate
