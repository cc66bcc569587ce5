"""FAPrompt on a tiny random CLIP: every equation against slow references. What it shares with AnomalyCLIP, training and
saving, is in `test_anomalyclip.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from object_agnostic_cases import (
    alive,
    build,
    plain_prompt,
    random_batch,
    reached,
    slow_map_loss,
    stir,
    two_class,
    unit,
)
from promptad_cases import lively_backbone
from torch.nn import functional as F

from promptad.clip.backbone import Backbone
from promptad.learning.auxiliary import Batch

# Rows of the paper's ablation table -> settings.
ROWS = {
    "base": {"prior": False, "abnormal_prompts": 1},
    "cap": {"prior": False},
    "cap without L_oc": {"prior": False, "orthogonality_weight": 0.0},
    "dap": {"abnormal_prompts": 1},
    "dap without L_prior": {"abnormal_prompts": 1, "prior_weight": 0.0},
    "full": {},
}


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return lively_backbone()


def lively(backbone: Backbone, **values):
    method = build(backbone, "faprompt", **values)
    stir(method)
    return method


def slow(method, batch: Batch) -> dict:
    """Equations 1 to 11, prompt by prompt and photo by photo, in float64 beyond the text tower."""
    config, slots, scale = method.config, method.module.slots, method.config.scale
    grid, labels = batch.features.grid, batch.labels.tolist()
    v = slots["normal"][0]
    normal = plain_prompt(method, [v, "object", "."])
    compound = [plain_prompt(method, [v, a, "damaged object", "."]) for a in slots["abnormal"]]
    out: dict = {"text": [], "map": [], "maps": [], "score": []}
    first, refined, entropy, focal, prior_loss = [], [], [], [], 0.0
    for i, y in enumerate(labels):
        patches = batch.features.patches[i].double().numpy()
        s = two_class(patches, normal, np.mean(compound, 0), scale)  # (T, 2)
        hatted, hatted_prompts = s, compound
        if config.prior:
            order = np.argsort(-s[:, 1]) if config.prior_patches == "top" else np.arange(len(s))
            rows = [unit(patches)[order[n % len(order)]] for n in range(config.patch_count)]
            with torch.no_grad():
                omega = method.module.prior(torch.from_numpy(np.concatenate(rows)).float())
            hatted_prompts = [plain_prompt(method, [v, a + omega, "damaged object", "."]) for a in slots["abnormal"]]
            hatted = two_class(patches, normal, np.mean(hatted_prompts, 0), scale)
            if y == 0:
                prior_loss += float((omega.double() ** 2).sum()) / len(omega)
        text = two_class(batch.features.image[i].double().numpy(), normal, np.mean(hatted_prompts, 0), scale)
        from_maps = (2 * s[:, 1].max() + hatted[:, 1].max()) / 3
        score = 0.5 * (text[1] + from_maps)
        entropy.append(-np.log(text[y]))
        p = 1 / (1 + np.exp(-score)) if config.image_focal == "logits" else score
        b = -np.log(p if y else 1 - p)
        focal.append((1 - np.exp(-b)) ** 2 * b)
        first.append(s.reshape(*grid, 2))
        refined.append(hatted.reshape(*grid, 2))
        out["text"].append(text[1])
        out["map"].append(from_maps)
        out["score"].append(score)
        quarter = (s[:, 1] + 1 - s[:, 0] + hatted[:, 1] + 1 - hatted[:, 0]) / 4
        out["maps"].append(quarter.reshape(grid))
    pairs = [
        abs(unit(compound[i]) @ unit(compound[j])) for i in range(len(compound)) for j in range(i + 1, len(compound))
    ]
    masks = batch.masks.numpy()
    local = slow_map_loss(np.stack(first), masks)
    if config.prior:
        local += config.refined_weight * slow_map_loss(np.stack(refined), masks) + config.prior_weight * prior_loss
    out["loss"] = np.mean(entropy) + np.mean(focal) + local + config.orthogonality_weight * sum(pairs)
    return out


VALUES = [*ROWS.values(), {"prior_patches": "raster"}, {"image_focal": "prob"}]
VALUES += [{"patch_count": 40, "abnormal_prompts": 3}]  # more than the grid has
VALUES += [{"normal_tokens": 2, "deep_tokens": 4, "abnormal_tokens": 3}]  # deep tokens reach beyond V


VALUES += [{"deep_tokens": 8}, {"deep_tokens": 20}]  # ... and over the end tokens, at 8 and 11
VALUES += [{"deep_precision": "fp16"}]


@pytest.mark.parametrize("values", VALUES, ids=str)
def test_the_loss_and_the_scores_are_those_of_a_slow_reference(backbone, values):
    method, batch = lively(backbone, **values), random_batch()
    expected = slow(method, batch)
    assert method.loss(batch).item() == pytest.approx(expected["loss"], rel=1e-4)
    scores = method.score(batch.features)
    assert scores.map.shape == (4, 6, 5)
    for ours, theirs in (
        (scores.image, expected["score"]),
        (scores.map, expected["maps"]),
        (scores.parts["text"], expected["text"]),
        (scores.parts["map"], expected["map"]),
    ):
        np.testing.assert_allclose(ours.numpy(), np.array(theirs), atol=1e-5)
    torch.testing.assert_close(scores.image, (scores.parts["text"] + scores.parts["map"]) / 2)


@pytest.mark.parametrize("values", ROWS.values(), ids=ROWS)
def test_gradients_reach_exactly_what_the_ablation_has(backbone, values):
    method = lively(backbone, **values)
    gradients = reached(method, random_batch())
    expected = {"slots.normal", "slots.abnormal", "deep"}
    network = {"prior.0.weight", "prior.0.bias", "prior.2.weight", "prior.2.bias"}
    assert set(gradients) == expected | (network if values.get("prior", True) else set())
    for name in expected:
        assert alive(gradients[name])
    for name in set(gradients) & network:
        assert gradients[name].abs().max() > 0


def test_the_prior_network_is_the_bottleneck_of_the_paper(backbone):
    network = build(backbone, "faprompt", patch_count=6).module.prior
    assert [tuple(parameter.shape) for parameter in network.parameters()] == [(9, 144), (9,), (32, 9), (32,)]
    assert 0 < network[0].weight.abs().max() <= 144**-0.5 and network[2].bias.abs().max() > 0
    x = torch.randn(2, 144)
    hidden = (x @ network[0].weight.T + network[0].bias).clamp(min=0)
    torch.testing.assert_close(network(x), hidden @ network[2].weight.T + network[2].bias)


def test_a_prior_of_zero_gives_the_unrefined_map(backbone):
    method, batch = lively(backbone), random_batch()
    refined = method.score(batch.features)
    with torch.no_grad():
        for parameter in method.module.prior[2].parameters():
            parameter.zero_()
    plain = method.score(batch.features)
    reading = method._read(batch.features, *method.prototypes())
    torch.testing.assert_close(reading.refined, reading.first, atol=1e-6, rtol=0)
    torch.testing.assert_close(plain.map.flatten(1), reading.first, atol=1e-6, rtol=0)
    torch.testing.assert_close(plain.parts["map"], reading.first.amax(1), atol=1e-6, rtol=0)
    assert (plain.map - refined.map).abs().max() > 1e-4  # with the network it is another one


def test_equation_11_at_pixel_size_is_the_mean_of_both_maps_because_the_softmax_has_two_classes(backbone):
    method, batch = lively(backbone), random_batch()
    normal, abnormal = method.prototypes()
    patches, scale = F.normalize(batch.features.patches, dim=-1), method.config.scale
    with torch.no_grad():
        prior = method._read(batch.features, normal, abnormal).prior
        refined = method.encode(method._refined, {"abnormal": prior}).mean(1)
    channels = []
    for prototype in (abnormal.expand(4, -1), refined):
        pair = F.normalize(torch.stack([normal.expand(4, -1), prototype], 1), dim=-1)
        both = (scale * patches @ pair.transpose(1, 2)).softmax(-1).transpose(1, 2).view(4, 2, 6, 5)
        channels.append(F.interpolate(both, size=(48, 40), mode="bilinear", align_corners=False))
    (s_n, s_a), (hat_n, hat_a) = (channel.unbind(1) for channel in channels)
    ours = method.score(batch.features).map[:, None]
    ours = F.interpolate(ours, size=(48, 40), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(ours, (s_a + 1 - s_n + hat_a + 1 - hat_n) / 4, atol=1e-6, rtol=0)


def test_the_prior_reads_the_most_abnormal_patches_in_order_or_the_first_ones(backbone):
    patches = F.normalize(torch.randn(2, 12, 24), dim=-1)
    logits = torch.stack([torch.randperm(12), torch.randperm(12)]).float()
    top = lively(backbone, patch_count=4)._prior_patches(patches, logits).view(2, 4, 24)
    first = lively(backbone, patch_count=4, prior_patches="raster")._prior_patches(patches, logits).view(2, 4, 24)
    for photo in range(2):
        for n in range(4):
            at = int((logits[photo] == 11 - n).nonzero())
            assert torch.equal(top[photo, n], patches[photo, at])
            assert torch.equal(first[photo, n], patches[photo, n])


def test_a_grid_of_few_patches_gives_them_again(backbone):
    method = lively(backbone, patch_count=5)
    patches, logits = torch.randn(1, 2, 24), torch.tensor([[0.1, 0.7]])
    rows = method._prior_patches(patches, logits).view(5, 24)
    assert all(torch.equal(rows[n], patches[0, 1 - n % 2]) for n in range(5))


def test_the_prior_loss_looks_at_normal_photos_alone(backbone):
    batch = random_batch()
    only_anomalous = Batch(batch.features, torch.ones(4, dtype=torch.long), batch.masks, batch.class_names)
    for labels, same in ((only_anomalous, True), (batch, False)):
        heavy, light = (lively(backbone, prior_weight=weight).loss(labels) for weight in (50.0, 1.0))
        assert bool(torch.isclose(heavy, light)) is same


def test_normal_prompts_stay_as_they_are_and_all_prompts_share_v(backbone):
    method = lively(backbone)
    slots = dict(method.module.slots.items())
    shifted = method._refined.assemble(slots, {"abnormal": torch.ones(3, 32)})
    plain = method._refined.assemble(slots)
    assert torch.equal(shifted[1][:, 1:6], slots["normal"][0].expand(10, -1, -1))
    for image in range(3):
        changed = (shifted[image] != plain).any(-1)
        assert changed[:, 6:8].all() and not changed[:, :6].any() and not changed[:, 8:].any()
