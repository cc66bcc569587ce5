"""What figures draw of the insides of methods is what their scores are made of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import object_agnostic_cases as auxiliary_cases
import promptad_cases as few_shot
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.methods.baselines.winclip import limited
from promptad.methods.registry import find_method
from promptad.methods.rwda.method import Classifier


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return few_shot.lively_backbone()


def test_the_prompts_of_promptad_are_unit_vectors_whose_means_its_scores_compare_with(backbone: Backbone):
    method = few_shot.trained(backbone, parts="text")
    (view,) = few_shot.encode(method, few_shot.photo(5))[0]
    for task in ("image", "pixel"):
        sides = method.prompt_features(task)
        assert list(sides) == ["normal", "manual", "learnable"]
        for rows in sides.values():
            torch.testing.assert_close(rows.norm(dim=-1), torch.ones(len(rows)))
        assert len(sides["manual"]) % 2 == 0  # two defects, in every sentence
    sides = method.prompt_features("image")
    anomalous = torch.cat([sides["manual"], sides["learnable"]])
    normal, other = (F.normalize(rows.mean(0), dim=-1) for rows in (sides["normal"], anomalous))
    expected = (method.config.scale * F.normalize(view.image, dim=-1) @ (other - normal)).sigmoid()
    # Scores compare with means of the raw features, whose lengths differ a little.
    torch.testing.assert_close(method.score(view).image, expected, atol=2e-3, rtol=0)
    assert (expected - 0.5).abs().min() > 0.02  # so that exchanged sides would be seen


def test_the_map_of_anomalyclips_one_abnormal_prompt_is_its_text_map(backbone: Backbone, tmp_path: Path):
    method = auxiliary_cases.trained(backbone, "anomalyclip", auxiliary_cases.labelled_photos(tmp_path))
    view = auxiliary_cases.encode(method)
    torch.testing.assert_close(method.prompt_maps(view)[:, 0], method.score(view).map, atol=1e-5, rtol=1e-4)


def test_each_abnormal_prompt_of_faprompt_has_its_own_map(backbone: Backbone, tmp_path: Path):
    method = auxiliary_cases.trained(backbone, "faprompt", auxiliary_cases.labelled_photos(tmp_path))
    view = auxiliary_cases.encode(method)
    maps = method.prompt_maps(view)
    assert maps.shape == (1, len(method.prompts) - 1, *view.grid) and maps.min() >= 0 and maps.max() <= 1
    assert len({tuple(own.flatten().tolist()) for own in maps[0]}) == maps.shape[1]


@pytest.mark.parametrize("normalize", [True, False])
def test_the_last_layer_of_rwdas_classifier_makes_its_logit_of_the_last_hidden_features(normalize: bool):
    torch.manual_seed(0)
    net = Classifier(8, (6, 5, 4), 0.5, normalize=normalize).eval()
    rows = torch.randn(3, 8)
    hidden = net.hidden(rows)
    assert [own.shape for own in hidden] == [(3, 6), (3, 5), (3, 4)]
    last: Any = list(net.layers)[-1]
    torch.testing.assert_close(last(hidden[-1]).squeeze(-1), net(rows))


@pytest.mark.parametrize("name", ["dra"])
def test_the_features_of_a_photo_tell_photos_apart(backbone: Backbone, name: str):
    entry = find_method(name)
    settings = {"epochs": 1, "iterations": 1, "batch_size": 6}
    method: Any = entry.build(backbone, entry.make_config("clean", **settings), "nut")

    def seen(seed: int) -> Any:
        photos = torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(seed))
        return backbone.vision(photos, method.request)

    method.fit([[seen(1)], [seen(2)]], anomalies=[[seen(3)]])
    rows = torch.cat([method.photo_features(seen(seed)) for seed in (4, 5)])
    assert rows.shape[0] == 2 and not torch.allclose(rows[0], rows[1]) and rows.isfinite().all()
    torch.testing.assert_close(method.photo_features(seen(4)), rows[:1])


@given(st.integers(1, 200), st.integers(1, 200), st.integers(0, 400))
def test_limited_sentences_are_spread_over_both_sides(normal: int, anomalous: int, limit: int):
    sides = [[f"n{i}" for i in range(normal)], [f"a{i}" for i in range(anomalous)]]
    made = limited(sides, limit)
    if not limit or limit >= normal + anomalous:
        assert made == sides
        return
    for own, side in zip(made, sides, strict=True):
        assert 1 <= len(own) <= len(side) and own == sorted(set(own), key=side.index) and own[0] == side[0]
    assert abs(sum(map(len, made)) - limit) <= 1
