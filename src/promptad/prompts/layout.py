"""Prompt layouts: fixed words and learnable slots, assembled into token embeddings with gradients.

A layout is a sequence of parts between the start and end tokens. A string is fixed words; a :class:`Slot` is a run of
learnable tokens. Prompts that name the same slot share its parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from promptad.clip.backbone import Backbone
from promptad.errors import ConfigError, TextError


@dataclass(frozen=True)
class Slot:
    """Row `row` of the learnable parameter `name`, whose shape is (rows, tokens, t); its tokens from `start` to before `stop`, to the
    last one where that is None."""

    name: str
    row: int = 0
    start: int = 0
    stop: int | None = None


Layout = Sequence[str | Slot]


class PromptSet:
    """P prompts compiled once for a text tower; assembling them for new parameter values is one gather.

    Args:
        layouts: the prompts.
        shapes: parameter name -> (rows, tokens) of every slot that the layouts use.
        backbone: whose tokenizer and token embeddings are used.

    Attributes:
        eot: (P,) int64 positions of the end-of-text tokens.
        shared: tokens at the beginning (start token and first slot) that prompts of one group have in common.
        groups: (P,) int64, which beginning each prompt has; first: (G,) a prompt of each group.

    Raises:
        TextError: a prompt longer than the context length.
        ConfigError: a slot of unknown name or row.
    """

    def __init__(self, layouts: Sequence[Layout], shapes: Mapping[str, tuple[int, int]], backbone: Backbone) -> None:
        starts, total = {}, 0
        for name, (rows, tokens) in shapes.items():
            starts[name] = total
            total += rows * tokens
        self._names, self._starts = list(shapes), starts
        self._shapes = dict(shapes)
        self.width = backbone.sizes.text.width
        tokenizer = backbone.tokenizer
        ids, slots = [], []
        backbone.say_unread(dict.fromkeys(part for layout in layouts for part in layout if isinstance(part, str)))
        for layout in layouts:
            row_ids, row_slots = [tokenizer.start], [-1]
            for part in layout:
                if isinstance(part, str):
                    words = tokenizer.words(part)
                    row_ids += words
                    row_slots += [-1] * len(words)
                    continue
                rows, tokens = shapes.get(part.name, (0, 0))
                if not 0 <= part.row < rows:
                    raise ConfigError(f"prompt slot {part.name}[{part.row}] does not exist")
                first = starts[part.name] + part.row * tokens
                own = range(first, first + tokens)[part.start : part.stop]
                row_ids += [tokenizer.end] * len(own)
                row_slots += own
            ids.append([*row_ids, tokenizer.end])
            slots.append([*row_slots, -1])
            if len(ids[-1]) > tokenizer.context_length:
                shown = " ".join(part for part in layout if isinstance(part, str))
                raise TextError(
                    f'prompt "{shown}" has {len(ids[-1])} tokens with its learnable ones, this model reads at most '
                    f"{tokenizer.context_length}; use a shorter object name or defect"
                )
        longest = max(map(len, ids))
        device = backbone.device
        padded = torch.tensor([row + [tokenizer.end] * (longest - len(row)) for row in ids], device=device)
        self.eot = torch.tensor([len(row) - 1 for row in ids], device=device)
        self._slots = torch.tensor([row + [-1] * (longest - len(row)) for row in slots], device=device)
        beginnings = [layout[0] if layout and isinstance(layout[0], Slot) else None for layout in layouts]
        spans = {len(range(shapes[slot.name][1])[slot.start : slot.stop]) if slot else 0 for slot in beginnings}
        if len(spans) > 1:  # beginnings of different lengths: only the start token is common to all
            beginnings, spans = [None] * len(layouts), {0}
        self.shared = 1 + spans.pop()
        distinct = list(dict.fromkeys(beginnings))
        self.groups = torch.tensor([distinct.index(slot) for slot in beginnings], device=device)
        self.first = torch.tensor([beginnings.index(slot) for slot in distinct], device=device)
        with torch.no_grad():
            self._fixed = backbone.text.token_embedding(padded).float()

    def __len__(self) -> int:
        return len(self.eot)

    def assemble(self, parameters: Mapping[str, Tensor], shift: Mapping[str, Tensor] | None = None) -> Tensor:
        """Token embeddings (P, n, t) float32, start token first, gradients flowing to `parameters` and `shift`.

        Args:
            parameters: name -> (rows, tokens, t), of the shapes given at construction.
            shift: name -> (B, t), a vector for each of B images that is added to every token of that parameter, in all
                its rows (FAPrompt, ICCV 2025, eq. 4). The result is then (B, P, n, t), all prompts for every image.

        Raises:
            ConfigError: a parameter is missing or of another shape, or a shift is of an unknown one.
        """
        base = self._assemble(parameters)
        for name, vectors in (shift or {}).items():
            if name not in self._shapes:
                raise ConfigError(f"prompt parameter {name!r} does not exist, so nothing can be added to it")
            first = self._starts[name]
            tokens = self._shapes[name][0] * self._shapes[name][1]
            inside = ((self._slots >= first) & (self._slots < first + tokens)).unsqueeze(-1)  # (P, n, 1)
            base = base + inside * vectors.float()[:, None, None]
        return base

    def _assemble(self, parameters: Mapping[str, Tensor]) -> Tensor:
        if not self._names:
            return self._fixed
        flat = []
        for name in self._names:
            tensor, shape = parameters.get(name), (*self._shapes[name], self.width)
            if tensor is None or tuple(tensor.shape) != shape:
                given = "none" if tensor is None else str(tuple(tensor.shape))
                raise ConfigError(f"prompt parameter {name!r} must have shape {shape}, found {given}")
            flat.append(tensor.reshape(-1, self.width).float())
        learnable = torch.cat(flat)[self._slots.clamp(min=0)]
        return torch.where((self._slots >= 0).unsqueeze(-1), learnable, self._fixed)
