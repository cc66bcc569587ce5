"""The prompts of PromptAD (CVPR 2024, section 4.2): normal ones, and those that semantic concatenation makes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.methods.promptad.config import PromptADConfig
from promptad.prompts.layout import Layout, PromptSet, Slot
from promptad.prompts.words import fill
from promptad.scoring.good_scores import GoodScores

_END = "."


@dataclass
class Prompts:
    """One prompt set: its compiled layouts, its parameters, and which rows are which.

    `anchor` is the (E,) anomalous prototype of the first step, before the parameters have moved.
    """

    compiled: PromptSet
    parameters: dict[str, Tensor]
    normal: slice
    manual: slice
    learnable: slice
    anchor: Tensor | None = None


@dataclass
class Prototypes:
    """What is kept of a prompt set for scoring: (E,) normal and anomalous, (S, E) one per state. All unit vectors."""

    normal: Tensor
    anomalous: Tensor
    states: Tensor = field(default_factory=lambda: torch.empty(0))


@dataclass(frozen=True)
class Snapshot:
    """The prompts of one task at one moment of training, the prototypes made of them, and, where text raises distances, what these say
    of the good photos."""

    parameters: dict[str, Tensor]
    prototypes: Prototypes
    good: GoodScores | None = None


def build_prompts(
    backbone: Backbone,
    config: PromptADConfig,
    object_words: str,
    states: Sequence[str],
    prefixes: int,
    generator: torch.Generator,
) -> Prompts:
    """A prompt set as the generator draws it.

    Args:
        states: defect states with [c] for the object. prefixes: N.

    Raises:
        TextError: words too long for the text tower.
    """
    shapes = {"prefix": (prefixes, config.prefix_tokens)}
    normal: list[Layout] = [(Slot("prefix", n), object_words, _END) for n in range(prefixes)]  # eq. 9
    manual: list[Layout] = []
    learnable: list[Layout] = []
    if not config.semantic_concatenation:
        shapes["context"] = shapes["prefix"]
        learnable = [(Slot("context", n), object_words, _END) for n in range(prefixes)]
    else:
        prefix = "anomaly_prefix" if config.anomaly_prefixes == "own" else "prefix"
        shapes[prefix] = shapes["prefix"]
        if config.manual_prompts:  # eq. 10
            manual = [(Slot(prefix, n), fill(state, object_words), _END) for n in range(prefixes) for state in states]
        if config.learnable_prompts and config.suffixes:  # eq. 11
            shapes["suffix"] = (config.suffixes, config.suffix_tokens)
            for n in range(prefixes):
                for s in range(config.suffixes):
                    pair: Layout = (object_words, Slot("suffix", s))
                    pair = pair if config.suffix_position == "after" else pair[::-1]
                    learnable.append((Slot(prefix, n), *pair, _END))
    n, m = len(normal), len(manual)
    compiled = PromptSet([*normal, *manual, *learnable], shapes, backbone)
    parameters = _draw(backbone, config, shapes, generator)
    return Prompts(compiled, parameters, slice(0, n), slice(n, n + m), slice(n + m, len(compiled)))


def _draw(
    backbone: Backbone, config: PromptADConfig, shapes: dict[str, tuple[int, int]], generator: torch.Generator
) -> dict[str, Tensor]:
    """Leaf tensors (rows, tokens, t) of every learnable parameter."""
    dtype = torch.float16 if config.prompt_precision == "fp16" else torch.float32
    parameters: dict[str, Tensor] = {}
    for name, shape in shapes.items():
        if name == "anomaly_prefix":  # a copy: semantic concatenation holds at the start
            parameters[name] = parameters["prefix"].detach().clone().requires_grad_()
            continue
        start = torch.randn(*shape, backbone.sizes.text.width, generator=generator) * config.init_std
        if name != "suffix":
            start = _prefix_start(backbone, config.prefix_init, start)
        parameters[name] = start.to(backbone.device, dtype).requires_grad_()
    return parameters


def _prefix_start(backbone: Backbone, words: str, noise: Tensor) -> Tensor:
    """(N, E_N, t) noise -> prefixes: it is added to the embeddings of phrases, each repeated or cut to E_N tokens.

    Prefix n takes phrase n, and the first again after the last. Of several phrases the first round gets no noise,
    because nothing else is needed to tell these prefixes apart.
    """
    table, tokenizer = backbone.text.token_embedding, backbone.tokenizer
    backbone.say_unread(words.split(","))
    phrases = [tokens for part in words.split(",") if (tokens := tokenizer.words(part))]
    if not phrases:
        return noise
    if len(phrases) > 1:
        noise[: len(phrases)] = 0
    chosen = [phrases[n % len(phrases)] for n in range(len(noise))]
    ids = [[tokens[i % len(tokens)] for i in range(noise.shape[1])] for tokens in chosen]
    return noise + table(torch.tensor(ids, device=backbone.device)).detach().float().cpu()
