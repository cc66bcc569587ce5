"""The trained part of PromptAD zero-shot (WACV 2024): two decoders over taps of the frozen image tower.

The paper names CLIPSeg (Lüddecke and Ecker, CVPR 2022) as its decoders' ancestor; they read the taps from deep to shallow:
u_1 = block_1(FiLM(r_1)), u_l = block_l(u_(l-1) + r_l), with r_l the tap brought to the decoder's width and FiLM the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from promptad.methods.promptad_zs.config import PromptADZeroShotConfig


class Decoder(nn.Module):
    """One branch: L transformer blocks (post-norm), a score head a layer, and the projection of the other side's prompt.

    Args:
        config: its sizes and variants. depth: L. token_width: D of the taps. embed_dim: E of the texts.
    """

    def __init__(self, config: PromptADZeroShotConfig, depth: int, token_width: int, embed_dim: int) -> None:
        super().__init__()
        width = config.width
        films = depth if config.film == "every" else 1
        self.reduce = nn.ModuleList(nn.Linear(token_width, width) for _ in range(depth))
        self.film_scale = nn.ModuleList(nn.Linear(embed_dim, width) for _ in range(films))
        self.film_shift = nn.ModuleList(nn.Linear(embed_dim, width) for _ in range(films))
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, config.heads, config.feedforward, config.dropout, batch_first=True)
            for _ in range(depth)
        )
        # A 1 x 1 convolution over patches that stand in a row is a linear layer.
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(depth if config.score_heads == "separate" else 1))
        self.prototype = nn.Linear(embed_dim, width) if config.ccl else None
        self.divisor = math.sqrt(width) if config.scale_products else 1.0

    def step(self, level: int, before: Tensor | None, tap: Tensor, text: Tensor) -> Tensor:
        """Block `level` (0 is the deepest tap's): what came before (B, N, W), the tap (B, N, D), the text (B, E)."""
        x: Tensor = self.reduce[level](tap)
        if before is not None:
            x = x + before
        if level < len(self.film_scale):
            x = self.film_scale[level](text).unsqueeze(1) * x + self.film_shift[level](text).unsqueeze(1)
        return self.blocks[level](x)

    def intra(self, level: int, patches: Tensor) -> Tensor:
        """The branch's own score of patches (B, T, W) -> (B, T)."""
        return self.heads[level if len(self.heads) > 1 else 0](patches).squeeze(-1)

    def cross(self, patches: Tensor, text: Tensor) -> Tensor | float:
        """Inner product of patches (B, T, W) with the projected prompt (B, E) of the other side; 0 without CCL."""
        if self.prototype is None:
            return 0.0
        return (patches @ self.prototype(text).unsqueeze(-1)).squeeze(-1) / self.divisor


def interaction_mask(scores: Tensor) -> Tensor:
    """sigmoid(ReLU(s - 0.5)): scores (B, T) of one branch -> weights in [0.5, 1) of the other's patches (section 3.5, eqs. 3, 4).

    The text calls low scores "masked out"; the equations halve them, and so does this.
    """
    return torch.sigmoid(torch.relu(scores - 0.5))


class DualBranch(nn.Module):
    """Normality and abnormality branch, which see each other's prompt (cross-view contrastive learning, CCL) and mask each
    other's patches (cross-view mutual interaction, CMI).

    Args:
        config, depth, token_width, embed_dim: see :class:`Decoder`.

    Attributes:
        text_norm: mean length of the normality prompts of training, to which few-shot prototypes are brought.
        tap_mean, tap_scale: (L, D) statistics of the training's patches, shallow to deep; 0 and 1 without `standardise`.
    """

    text_norm: Tensor
    tap_mean: Tensor
    tap_scale: Tensor

    def __init__(self, config: PromptADZeroShotConfig, depth: int, token_width: int, embed_dim: int) -> None:
        super().__init__()
        self.cmi, self.mask_last = config.cmi, config.mask_last
        sides = ("normal", "abnormal") if config.branches == "both" else (config.branches,)
        self.branches = nn.ModuleDict({side: Decoder(config, depth, token_width, embed_dim) for side in sides})
        self.register_buffer("text_norm", torch.ones(()))
        self.register_buffer("tap_mean", torch.zeros(depth, token_width))
        self.register_buffer("tap_scale", torch.ones(depth, token_width))

    def forward(
        self, taps: Sequence[Tensor], normal: Tensor, abnormal: Tensor, prototype: Tensor | None = None
    ) -> list[dict[str, Tensor]]:
        """Scores of every patch after every block; larger = more anomalous for both branches, unbounded.

        s_a = conv(q_abn) - <phi_nor, q_abn> (eq. 1) and s_n = <phi_abn, q_nor> - conv(q_nor) (eq. 2). A branch has one
        projection of the other's prompt, shared by its blocks (our reading), and projects the text as the tower gives it.

        Args:
            taps: (B, 1 + T, D) each, class token first, shallow to deep.
            normal, abnormal: (B, E) embeddings of the normality and the abnormality prompt of each photo.
            prototype: (B, E) takes the place of `normal` in phi_nor, and nowhere else.

        Returns:
            Per block {"normal": s_n (B, T), "abnormal": s_a (B, T)}, of the branches there are; the last one counts.
        """
        return self.decoded(taps, normal, abnormal, prototype)[0]

    def decoded(
        self, taps: Sequence[Tensor], normal: Tensor, abnormal: Tensor, prototype: Tensor | None = None
    ) -> tuple[list[dict[str, Tensor]], dict[str, Tensor]]:
        """The same, and each branch's states (B, 1 + T, W) after the last block, class token first."""
        own = {"normal": normal, "abnormal": abnormal}
        other = {"normal": abnormal, "abnormal": normal if prototype is None else prototype}
        attend_each_other = self.cmi != "off" and len(self.branches) == 2
        states: dict[str, Tensor] = {}
        levels: list[dict[str, Tensor]] = []
        for level in range(len(taps)):
            tap = (taps[-1 - level] - self.tap_mean[-1 - level]) / self.tap_scale[-1 - level]
            last = level == len(taps) - 1
            maps: dict[str, Tensor] = {}
            for side, branch in self.branches.items():
                assert isinstance(branch, Decoder)
                states[side] = branch.step(level, states.get(side), tap, own[side])
                if side == "abnormal" and last and attend_each_other and self.mask_last:
                    states[side] = _masked(states[side], maps["normal"])
                patches = states[side][:, 1:]
                contrast = branch.cross(patches, other[side]) - branch.intra(level, patches)
                maps[side] = contrast if side == "normal" else -contrast
            if attend_each_other and not last:
                states["abnormal"] = _masked(states["abnormal"], maps["normal"])
                if self.cmi == "mutual":
                    states["normal"] = _masked(states["normal"], maps["abnormal"])
            levels.append(maps)
        return levels, states


def _masked(states: Tensor, scores: Tensor) -> Tensor:
    """States (B, 1 + T, W) with the patches weighted by the other branch's scores (B, T); the class token is no place."""
    return torch.cat([states[:, :1], states[:, 1:] * interaction_mask(scores).unsqueeze(-1)], dim=1)
