"""A random target small enough to enumerate, with a tokenizer and prompts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from taskspec.decoding.cached_model import CachedModel
from taskspec.interfaces import DraftCorpus
from taskspec.models.quiet import quiet_transformers

WORDS = 42
VOCABULARY = 48
END = 1
_SPECIAL = ("<|begin|>", "<|end|>", "<|start|>", "<|unknown|>", "user", "assistant")
_TEMPLATE = (
    "{% for message in messages %}<|start|> {{ message['role'] }} "
    "{{ message['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|start|> assistant {% endif %}"
)


@dataclass(frozen=True)
class ToyTarget:
    """An `interfaces.Target`: a random Llama of 4 layers over 48 tokens, in float32."""

    model: Any
    tokenizer: Any
    eos_token_ids: frozenset[int] = frozenset({END})
    context_length: int = 128
    vocabulary_size: int = VOCABULARY
    hidden_size: int = 32
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32

    @property
    def head(self) -> nn.Module:
        """The output head."""
        head: nn.Module = self.model.lm_head
        return head


@lru_cache(maxsize=1)
def toy_target() -> ToyTarget:
    """The target of all checks; the global generators are left as they are."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        tie_word_embeddings=False,
        bos_token_id=0,
        eos_token_id=END,
        pad_token_id=END,
    )
    with torch.random.fork_rng(), quiet_transformers():
        torch.manual_seed(0)
        model: Any = LlamaForCausalLM(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                # Larger than transformers' own, so that what comes next depends on the text.
                spread = 0.3 if "lm_head" in name else 0.25
                parameter.normal_(0, spread, generator=generator)
    return ToyTarget(model.eval().requires_grad_(False), _tokenizer())


def without_end() -> ToyTarget:
    """The same target that never ends an answer by itself."""
    return replace(toy_target(), eos_token_ids=frozenset())


def _tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokens = [*_SPECIAL, *(f"w{index}" for index in range(WORDS))]
    inner = Tokenizer(models.WordLevel({t: i for i, t in enumerate(tokens)}, "<|unknown|>"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=inner,
        bos_token="<|begin|>",
        eos_token="<|end|>",
        unk_token="<|unknown|>",
        additional_special_tokens=["<|start|>"],
    )
    tokenizer.chat_template = _TEMPLATE
    return tokenizer


def toy_prompts(count: int, length: int = 9, seed: int = 0) -> list[list[int]]:
    """Random prompts of up to `length` tokens, with repetitions for drafters that copy."""
    generator = torch.Generator().manual_seed(seed)
    prompts = []
    for index in range(count):
        words = torch.randint(len(_SPECIAL), VOCABULARY, (length,), generator=generator).tolist()
        half = words[: length // 2]
        prompts.append([2, *half, *half, *words[length // 2 :]][: 3 + length - index % 3])
    return prompts


@torch.inference_mode()
def answer(target: ToyTarget, prompt: list[int], count: int) -> list[int]:
    """The target's greedy answer of `count` tokens, the slow and certain way."""
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(target.model(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[len(prompt) :]


@lru_cache(maxsize=1)
def toy_corpus() -> DraftCorpus:
    """Prompts with the target's answers to them."""
    prompts = toy_prompts(12, seed=1)
    return DraftCorpus(prompts, [answer(toy_target(), prompt, 12) for prompt in prompts])


@torch.inference_mode()
def states(target: ToyTarget, tokens: list[int], layers: tuple[int, ...]) -> Tensor:
    """Hidden states [len(tokens), H * layers] as the engine hands them to drafters."""
    model = CachedModel(target.model, target.head)
    wanted = model.forward([0], torch.tensor([tokens]), None, layers)
    return wanted[0]
