"""How far can the image prompts get? `python benchmarks/prompt_bound.py DATASET OBJECT [DATASET OBJECT ...]`

For every data set and 1 and 4 shots over five draws: image AUROC of the untrained text ensemble, and of two stand-ins for
the learned normal prototype that no text tower limits: the mean image feature of the good photos, and free prototypes that
start from the text ensemble and are trained with PromptAD's loss. If the free ones do not beat the ensemble, more training
of prompts cannot either: the good photos' image features do not say in which direction a defect lies.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from promptad.clip.backbone import load_backbone
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.preprocess import Preprocess
from promptad.data.datasets import load_dataset
from promptad.data.shots import draw_shots
from promptad.learning.features import Encoder, default_store
from promptad.metrics.ranking import auroc
from promptad.prompts.words import ensemble, object_words
from promptad.scoring.prototypes import ensemble_prototype

SCALE, STEPS, LR = 100.0, 300, 0.05


def trained(features: torch.Tensor, normal: torch.Tensor, anomalous: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Free prototypes after the contrastive loss with one positive and one negative."""
    n, a = normal.clone().requires_grad_(), anomalous.clone().requires_grad_()
    optimiser = torch.optim.SGD([n, a], lr=LR, momentum=0.9)
    for _ in range(STEPS):
        margin = features @ (F.normalize(a, dim=-1) - F.normalize(n, dim=-1))
        loss = F.softplus(SCALE * margin).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return F.normalize(n, dim=-1).detach(), F.normalize(a, dim=-1).detach()


def main(arguments: list[str]) -> None:
    """Prints one line a data set and number of shots."""
    backbone = load_backbone()
    layout = Preprocess(backbone.input_size, backbone.sizes.vision.patch_size)
    # The request of the promptad method, so that features of an earlier evaluation are read from the cache.
    encoder = Encoder(backbone, layout, FeatureRequest((3, 8), LocalStream(1)), cache=default_store())
    for folder, name in zip(arguments[::2], arguments[1::2], strict=True):
        records = load_dataset(Path(folder))
        normal, anomalous = (
            ensemble_prototype(backbone.encode_texts(side)) for side in ensemble("winclip", object_words(name))
        )

        def features(paths: list[Path]) -> list[torch.Tensor]:
            photos = encoder.encode_files(paths)
            return [F.normalize(torch.cat([view.image for view in photo.features]), dim=-1) for photo in photos]

        test = [record for record in records if record.split == "test"]
        labels, photos = np.array([record.label for record in test]), features([record.path for record in test])
        train = [record for record in records if record.split == "train"]

        def score(n: torch.Tensor, a: torch.Tensor, photos: list = photos, labels: np.ndarray = labels) -> float:
            return auroc(labels, np.array([float((views @ (a - n)).max()) for views in photos]))

        for k in (1, 4):
            rows = []
            for seed in range(111, 116):
                good = torch.cat(features([record.path for record in draw_shots(train, k, seed)]))
                rows.append(
                    (score(F.normalize(good.mean(0), dim=-1), anomalous), score(*trained(good, normal, anomalous)))
                )
            mean, free = np.mean(rows, axis=0)
            print(
                f"{name}, {k} shots: text ensemble {100 * score(normal, anomalous):.1f}, "
                f"mean good feature {100 * mean:.1f}, free prototypes {100 * free:.1f}",
                flush=True,
            )


if __name__ == "__main__":
    main(sys.argv[1:])
