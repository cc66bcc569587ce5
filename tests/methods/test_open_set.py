"""DevNet, DRA and the stand-in for MLEP: what they draw, learn and add up, against counts of the papers and slow versions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from promptad import Detector
from promptad.clip.features import Features
from promptad.errors import ConfigError
from promptad.learning.deviation import prior_deviation_loss
from promptad.learning.drawn_steps import drawn_steps
from promptad.learning.epochs import Recipe
from promptad.learning.pasted import AREA, draw_rectangle, paste
from promptad.methods.baselines.dra import NORMAL, PSEUDO, SEEN, DRAHeads
from promptad.methods.baselines.mlep_proxy import Autoencoder
from promptad.methods.registry import find_method
from promptad.notices import PromptadNotice
from tiny import tiny_backbone

NAMES = ("devnet", "dra", "mlep-proxy")
QUICK = {"epochs": 2, "iterations": 3, "batch_size": 6}


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


def made(name: str, backbone, **settings):
    entry = find_method(name)
    return entry.build(backbone, entry.make_config("clean", **{**QUICK, **settings}), "nut")


@torch.no_grad()
def seen(backbone, method, seed: int, size: tuple[int, int] = (48, 48), count: int = 1) -> Features:
    photos = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(seed))
    return backbone.vision(photos, method.request)


def fitted(name: str, backbone, good=(1, 2, 3), bad=(7, 8), **settings):
    method = made(name, backbone, **settings)
    photos = [[seen(backbone, method, seed)] for seed in good]
    method.fit(photos, anomalies=[[seen(backbone, method, seed)] for seed in bad])
    return method, photos


def steps_of(method, normal, anomalous, seed):
    """The steps of an epoch, as training draws them."""
    generator = torch.Generator().manual_seed(seed)
    return drawn_steps((normal, anomalous), method.batch_shares(), method.config.iterations, generator)


# Drawing ------------------------------------------------------------------------------------------------------------


def test_a_step_of_dra_has_32_places_of_good_photos_half_of_them_pseudo_and_16_seen(backbone):
    method = made("dra", backbone, batch_size=48, iterations=50)
    normal, anomalous = torch.randn(7, 32, 4, 4), torch.randn(1, 32, 4, 4)
    counts = []
    for epoch in range(20):
        for drawn in steps_of(method, 7, 1, epoch):
            _, labels = method.compose(normal, anomalous, drawn, torch.Generator().manual_seed(drawn.seed))
            counts.append([int((labels == kind).sum()) for kind in (NORMAL, SEEN, PSEUDO)])
    table = np.array(counts)
    assert table.shape == (1000, 3) and set(table[:, 1]) == {16} and set(table[:, 0] + table[:, 2]) == {32}
    # Binomial(32, 1/2) has deviation 2.83; the mean of 1000 lies within 0.36 of 16 but for one time in 15,000.
    assert abs(table[:, 2].mean() - 16) < 0.36 and 2.5 < table[:, 2].std() < 3.2


def test_devnet_and_the_stand_in_take_as_many_anomalies_as_good_photos_each_once_before_any_again(backbone):
    for name in ("devnet", "mlep-proxy"):
        steps = steps_of(made(name, backbone, batch_size=48, iterations=4), 10, 3, 0)
        assert [(len(s.normal), len(s.anomalous)) for s in steps] == [(24, 24)] * 4
        order = [index for step in steps for index in step.normal]
        assert sorted(order[:10]) == sorted(order[10:20]) == list(range(10))


def test_rectangles_have_the_areas_of_the_paper_and_lie_inside():
    generator = torch.Generator().manual_seed(0)
    areas = []
    for _ in range(500):
        drawn = draw_rectangle((40, 60), generator)
        for top, left in (drawn.source, drawn.target):
            assert 0 <= top <= 40 - drawn.height and 0 <= left <= 60 - drawn.width
        areas.append(drawn.height * drawn.width / 2400)
    assert AREA[0] * 0.8 < min(areas) and max(areas) < AREA[1] * 1.1
    assert abs(np.mean(areas) - np.mean(AREA)) < 0.006


def test_a_pasted_map_differs_in_a_rectangle_alone_and_without_noise_holds_tokens_of_the_map():
    features = torch.randn(5, 9, 9, generator=torch.Generator().manual_seed(0))
    own = {tuple(token.tolist()) for token in features.flatten(1).T}
    for seed in range(20):
        pasted = paste(features, torch.zeros(5), torch.Generator().manual_seed(seed))
        assert {tuple(token.tolist()) for token in pasted.flatten(1).T} <= own
        rows, columns = (torch.nonzero(part).flatten() for part in _changed(pasted, features))
        if len(rows):
            inside = (pasted != features).any(0)[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            assert int(inside.sum()) == int((pasted != features).any(0).sum())
    noisy = paste(features, torch.ones(5), torch.Generator().manual_seed(1))
    assert not torch.equal(noisy, paste(features, torch.zeros(5), torch.Generator().manual_seed(1)))


def _changed(first: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    places = (first != other).any(dim=0)
    return places.any(dim=1), places.any(dim=0)


# The loss and the schedule ------------------------------------------------------------------------------------------


def test_the_deviation_loss_is_zero_at_the_prior_and_beyond_the_margin():
    prior = torch.tensor([-1.0, 1.0, 0.0]) * (1 / torch.tensor([-1.0, 1.0, 0.0]).std())
    assert float(prior_deviation_loss(torch.zeros(3), torch.zeros(3), prior)) == 0
    assert float(prior_deviation_loss(torch.tensor([5.0, 9.0]), torch.ones(2), prior)) == 0
    scores, labels = np.array([0.5, -2.0, 1.0, 7.0]), np.array([0, 0, 1, 1])
    draws = np.random.default_rng(0).normal(size=5000)
    slow = [
        abs((s - draws.mean()) / draws.std(ddof=1)) if y == 0 else max(0, 5 - (s - draws.mean()) / draws.std(ddof=1))
        for s, y in zip(scores, labels, strict=True)
    ]
    loss = prior_deviation_loss(torch.from_numpy(scores), torch.from_numpy(labels), torch.from_numpy(draws))
    assert float(loss) == pytest.approx(np.mean(slow))


def test_the_rate_falls_where_the_released_code_lets_it_fall():
    recipe = Recipe(lr=1.0, decay_every=10, decay_ahead=1)
    falls = [epoch - 1 for epoch in range(2, 31) if recipe.rate(epoch) < recipe.rate(epoch - 1)]
    assert falls == [9, 19, 29]
    assert [e - 1 for e in range(2, 31) if Recipe(decay_every=10).rate(e) < Recipe(decay_every=10).rate(e - 1)] == [
        10,
        20,
    ]


# The heads ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "count"), [(512, 2_493_956), (640, 3_854_596), (768, 5_510_148), (896, 7_460_612), (1024, 9_705_988)]
)
def test_dra_has_the_parameters_of_the_released_code(width, count):
    assert sum(p.numel() for p in DRAHeads(width).parameters()) == count


def test_devnet_has_513_parameters_on_512_channels_and_the_stand_in_two_linear_layers(backbone):
    build = find_method("devnet").build
    assert sum(p.numel() for p in build(backbone, find_method("devnet").make_config()).build(512).parameters()) == 513
    assert sum(p.numel() for p in Autoencoder(512, 128).parameters()) == 2 * 512 * 128 + 128 + 512


def test_devnets_score_is_the_mean_of_the_highest_tenth_at_both_sizes(backbone):
    method, _ = fitted("devnet", backbone)
    query = seen(backbone, method, 9)
    state = {name: value.numpy().astype(np.float64) for name, value in method.state().items()}
    tokens = (query.taps[method._layer][0].numpy() - state["mean"]) / state["scale"]
    whole = tokens.reshape(6, 6, -1)
    half = whole.reshape(3, 2, 3, 2, -1).mean(axis=(1, 3))
    weight, bias = state["heads.weight"][0, :, 0, 0], state["heads.bias"]
    tops = []
    for places in (whole, half):
        values = np.sort(np.abs(places @ weight + bias).ravel())[::-1]
        tops.append(values[: max(1, int(0.1 * values.size))].mean())
    scores = method.score(query)
    assert float(scores.image[0]) == pytest.approx(np.mean(tops), rel=1e-4)
    assert scores.map.shape == (1, 6, 6) and float(scores.map.min()) >= 0


def test_a_photo_like_the_references_gives_the_residual_head_nothing(backbone):
    method = made("dra", backbone)
    net = method.build(method.width).eval()
    given = []
    net.residual.register_forward_pre_hook(lambda _module, inputs: given.append(inputs[0]))
    flat = torch.randn(32, 1, 1).expand(32, 6, 6)[None]
    method._scores(net, flat, flat)
    assert len(given) == 2 and all(float(values.abs().max()) < 1e-6 for values in given)


def test_dras_score_is_the_sum_of_its_heads_with_the_holistic_one_subtracted(backbone):
    method, _ = fitted("dra", backbone)
    query = seen(backbone, method, 9)
    scores = method.score(query)
    parts = {name: float(value[0]) for name, value in scores.parts.items()}
    assert float(scores.image[0]) == pytest.approx(
        parts["seen"] + parts["pseudo"] + parts["residual"] - parts["holistic"], rel=1e-5
    )
    net, maps = method.net(), method.maps(query)
    holistic = net.holistic(maps.mean(dim=(2, 3))).abs()
    assert parts["holistic"] == pytest.approx(float(holistic[0, 0]), rel=1e-4)  # the mean is the same in half size


def test_a_photo_that_is_left_out_is_no_reference_of_its_own_score(backbone):
    method, photos = fitted("dra", backbone, references=2, good=(1, 2, 3, 4))
    assert sorted(set(method._owners.tolist())) == [0, 1, 2, 3]
    for number in method._owners[:2].tolist():
        rows = method._references[method._owners != number][:2]
        torch.testing.assert_close(method.reference(number, (6, 6)), rows.mean(dim=0, keepdim=True))
    own = int(method._owners[0])
    assert not torch.equal(method.score(photos[own][0], leave_out=own).image, method.score(photos[own][0]).image)
    alone, photos = fitted("dra", backbone, good=(1,))
    torch.testing.assert_close(alone.score(photos[0][0], leave_out=0).image, alone.score(photos[0][0]).image)


def test_the_stand_ins_parts_are_deviations_over_the_good_photos(backbone):
    method, photos = fitted("mlep-proxy", backbone, good=(1, 2, 3, 4))
    parts = [method.score(photo[0]).parts for photo in photos]
    for name in ("reconstruction", "distance"):
        values = np.array([float(part[name][0]) for part in parts])
        assert values.mean() == pytest.approx(0, abs=1e-3) and values.std() == pytest.approx(1, abs=1e-3)
    assert method.score(photos[0][0]).map is None


# All of them --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("tokens", ["block", "projected"])
def test_anomalies_that_were_learned_from_score_above_good_photos(backbone, name, tokens):
    method, photos = fitted(name, backbone, epochs=10, iterations=10, lr=3e-3, tokens=tokens, batch_size=12)
    good = [float(method.score(photo[0]).image[0]) for photo in photos]
    bad = [float(method.score(seen(backbone, method, seed)).image[0]) for seed in (7, 8)]
    assert min(bad) > max(good)
    assert method.history[-1] < method.history[0]


@pytest.mark.parametrize("name", NAMES)
def test_the_seed_decides_everything_and_nobody_elses_random_numbers_move(backbone, name):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, _ = fitted(name, backbone)
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(6)
    second, other = fitted(name, backbone)[0], fitted(name, backbone, seed=1)[0]
    query = seen(backbone, first, 9)
    assert torch.equal(first.score(query).image, second.score(query).image)
    assert not torch.equal(first.score(query).image, other.score(query).image)


@pytest.mark.parametrize("name", NAMES)
def test_views_of_another_shape_are_learned_from_and_scored(backbone, name):
    method = made(name, backbone)
    photos = [[seen(backbone, method, 1)], [seen(backbone, method, 2, (48, 64))]]
    with pytest.warns(PromptadNotice, match="1 of 2 views have another shape"):
        method.fit(photos, anomalies=[[seen(backbone, method, 3)]])
    scores = method.score(seen(backbone, method, 4, (48, 64), count=2))
    assert scores.image.shape == (2,) and (scores.map is None or scores.map.shape == (2, 6, 8))


@pytest.mark.parametrize("name", NAMES)
def test_photos_of_one_kind_alone_are_refused(backbone, name):
    method = made(name, backbone)
    photo = [seen(backbone, method, 1)]
    for good, bad in (([photo], []), ([], [photo])):
        with pytest.raises(ConfigError, match="learns from good photos and labelled anomalies"):
            method.fit(good, anomalies=bad)
    with pytest.raises(ConfigError, match="has not learned"):
        method.score(photo[0])


def photos(count: int, seed: int) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).integers(0, 255, (count, 48, 48, 3), np.uint8))


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_learns_from_defective_photos_and_comes_back_from_its_file(backbone, name, tmp_path):
    detector = Detector(name, object="nut", backbone=backbone, **QUICK)
    with pytest.raises(ConfigError, match="learns from labelled defective photos"):
        detector.fit(photos(3, 0))
    with pytest.warns(PromptadNotice, match="learns from the 2 defective photos that are given"):
        detector.fit(photos(3, 0), defective=photos(2, 1))
    assert detector.calibration is not None and not detector.calibration.defective
    assert len(detector.anomalies) == 2 and detector.identity()["anomalies"] == ["array", "array"]
    loaded = Detector.load(detector.save(tmp_path / "nut.safetensors"), backbone=backbone)
    assert loaded.anomalies == detector.anomalies
    photo = photos(1, 2)[0]
    assert loaded.predict(photo).score == detector.predict(photo).score


def test_methods_that_learn_nothing_from_anomalies_are_given_none(backbone):
    detector = Detector("patchcore", object="nut", backbone=backbone, layers=(2,))
    detector.fit(photos(3, 0), defective=photos(2, 1))
    assert detector.anomalies == [] and len(detector.calibration.defective) == 2
    features = [detector.encode(photo) for photo in photos(2, 0)]
    with pytest.raises(ConfigError, match="learns nothing from labelled defective photos"):
        detector.fit_features(features, anomalies=features)
