"""Encoding photos in batches, and the feature cache: what it keeps, when it forgets, what it survives."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, LocalStream
from promptad.clip.preprocess import Preprocess, normalise
from promptad.data.copies import turned_copies
from promptad.errors import PhotoError
from promptad.learning import features as module
from promptad.learning.features import Encoder, FeatureStore, PhotoFeatures, default_store
from promptad.notices import PromptadNotice
from tiny import tiny_backbone

AUTO, REQUEST = Preprocess(48, 8, "auto"), FeatureRequest((1, 3), LocalStream(1))
SHAPES = [(60, 80), (30, 100), (64, 64), (80, 60), (100, 30), (60, 80)]  # two of them become several tiles


@pytest.fixture(scope="module", autouse=True)
def backbone() -> Iterator[Backbone]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other at every tiny layer
    yield tiny_backbone()
    torch.set_num_threads(threads)


def noise(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), dtype=np.uint8)


def photo_file(path: Path, shape: tuple[int, int] = (60, 80), seed: int = 0) -> Path:
    Image.fromarray(noise(shape, seed)).save(path)
    return path


def same(first: PhotoFeatures, second: PhotoFeatures, atol: float = 0) -> None:
    assert first.size == second.size and first.views == second.views
    assert len(first.features) == len(second.features) == len(first.views)
    for a, b in zip(first.features, second.features, strict=True):
        assert a.grid == b.grid and list(a.taps) == list(b.taps) and (a.patches is None) == (b.patches is None)
        pairs = [(a.image, b.image), *((a.taps[k], b.taps[k]) for k in a.taps)]
        for x, y in pairs if a.patches is None else [*pairs, (a.patches, b.patches)]:
            torch.testing.assert_close(x, y, atol=atol, rtol=0)


class Counting(Encoder):
    """Counts the photos that really run through the tower."""

    ran = 0

    def encode(self, photos, *, reference=False, learned=False, name=""):
        self.ran += len(photos)
        return super().encode(photos, reference=reference, learned=learned)


# Batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_photos_of_mixed_sizes_keep_their_order_and_equal_single_ones(backbone, batch_size):
    photos = [noise(shape, seed) for seed, shape in enumerate(SHAPES)]
    encoded = Encoder(backbone, AUTO, REQUEST, batch_size=batch_size).encode(photos)
    single = Encoder(backbone, AUTO, REQUEST, batch_size=1)
    assert [features.size for features in encoded] == SHAPES
    assert [len(features.views) for features in encoded] == [1, 4, 1, 1, 4, 1]
    for photo, ours in zip(photos, encoded, strict=True):
        same(ours, single.encode([photo])[0], atol=1e-5)
        assert ours.seconds > 0 and all(len(view) == 1 for view in ours.features)
    assert (encoded[0].features[0].image - encoded[5].features[0].image).abs().max() > 1e-4
    assert Encoder(backbone, AUTO, REQUEST).encode([]) == []


@torch.no_grad()
def test_each_view_is_the_tower_applied_to_its_normalised_pixels(backbone):
    photo = noise((30, 100))
    (encoded,) = Encoder(backbone, AUTO, REQUEST).encode([photo])
    for view, ours in zip(AUTO.views(30, 100), encoded.features, strict=True):
        pixels = torch.from_numpy(normalise(AUTO.pixels(photo, view), backbone.mean, backbone.std))
        expected = backbone.vision(pixels[None], REQUEST)
        torch.testing.assert_close(ours.image, expected.image, atol=1e-5, rtol=0)
        torch.testing.assert_close(ours.taps[3], expected.taps[3], atol=1e-5, rtol=0)


def test_swapped_channels_concern_test_photos_only(backbone):
    photo, bgr = noise((60, 80)), replace(AUTO, channels="bgr")
    plain, swapped = Encoder(backbone, AUTO, REQUEST), Encoder(backbone, bgr, REQUEST)
    same(swapped.encode([photo], reference=True)[0], plain.encode([photo])[0])
    same(swapped.encode([photo])[0], plain.encode([photo[..., ::-1].copy()])[0])


def test_turned_copies_of_photos_that_are_learned_from_are_tapped_in_the_layout_of_the_photo(backbone, tmp_path):
    photo = noise((30, 100))
    request = replace(REQUEST, turns=3, mirrored=True)
    encoder = Encoder(backbone, AUTO, request)
    for ours in (
        encoder.encode([photo], learned=True)[0],
        encoder.encode_read(photo, learned=True),
        encoder.encode_files([photo_file(tmp_path / "a.png", (30, 100), 0)], learned=True)[0],
    ):
        copies = Encoder(backbone, AUTO, REQUEST).encode(turned_copies(photo, 3, mirrored=True))
        assert len(ours.features) == len(AUTO.views(30, 100)) > 1
        for number, view in enumerate(ours.features):
            assert view.turned.keys() == view.taps.keys() == set(REQUEST.taps)
            for layer, taps in view.turned.items():
                assert taps.shape == (1, 5, *view.taps[layer].shape[1:])
                for turn, copy in enumerate(copies):
                    torch.testing.assert_close(taps[0, turn], copy.features[number].taps[layer][0], atol=1e-5, rtol=0)
    for plain in (encoder.encode([photo], reference=True)[0], encoder.encode([photo])[0]):
        same(plain, Encoder(backbone, AUTO, REQUEST).encode([photo])[0])


def test_only_photos_that_are_learned_from_are_kept_apart_by_their_turns(backbone, tmp_path):
    path, turning = photo_file(tmp_path / "a.png"), replace(REQUEST, turns=2)
    plain, turned = (
        Encoder(backbone, AUTO, REQUEST),
        Encoder(backbone, AUTO, turning, cache=FeatureStore(tmp_path / "s")),
    )
    assert turned.key(path) == turned.key(path, reference=True) == plain.key(path) == plain.key(path, learned=True)
    assert turned.key(path, learned=True) != turned.key(path)
    first, again = (turned.encode_files([path], learned=True)[0] for _ in range(2))
    assert all(torch.equal(a, first.features[0].turned[layer]) for layer, a in again.features[0].turned.items())
    assert again.seconds == 0 and again.features[0].turned


# The cache ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [REQUEST, FeatureRequest(), FeatureRequest((2,))], ids=["all", "none", "tap"])
def test_a_cache_hit_equals_the_miss_exactly(backbone, tmp_path, request_):
    paths = [photo_file(tmp_path / f"{seed}.png", shape, seed) for seed, shape in enumerate(SHAPES)]
    encoder, done = Counting(backbone, AUTO, request_, cache=FeatureStore(tmp_path / "store")), []
    missed = encoder.encode_files(paths, done=done.append)
    assert encoder.ran == len(paths) and done == paths
    again = Counting(backbone, AUTO, request_, cache=FeatureStore(tmp_path / "store"))
    hit = again.encode_files(paths)
    assert again.ran == 0
    for first, second in zip(missed, hit, strict=True):
        same(first, second)
        assert first.seconds > 0 and second.seconds == 0
    plain = Encoder(backbone, AUTO, request_).encode_files(paths)
    for first, second in zip(missed, plain, strict=True):
        same(first, second)


def test_the_key_depends_on_everything_that_changes_features_and_on_nothing_else(backbone, tmp_path):
    path = photo_file(tmp_path / "a.png")
    key = Encoder(backbone, AUTO, REQUEST).key(path)
    copy = tmp_path / "copy of a.png"
    copy.write_bytes(path.read_bytes())
    os.utime(copy, (1, 1))
    assert Encoder(tiny_backbone(), AUTO, REQUEST, batch_size=3).key(copy) == key
    assert Encoder(backbone, AUTO, REQUEST).key(path, reference=True) == key  # nothing is swapped here

    bicubic, half = tiny_backbone(), tiny_backbone()
    bicubic.vision.position_resize = "bilinear"
    half.precision = "bf16"
    bgr = replace(AUTO, channels="bgr")
    others = [
        Encoder(backbone, AUTO, REQUEST).key(photo_file(tmp_path / "b.png", seed=1)),
        *(Encoder(other, AUTO, REQUEST).key(path) for other in (tiny_backbone(1), bicubic, half)),
        *(
            Encoder(backbone, other, REQUEST).key(path)
            for other in (
                replace(AUTO, size=56),
                replace(AUTO, fit="squash"),
                replace(AUTO, pre_resize=99),
                bgr,
            )
        ),
        Encoder(backbone, bgr, REQUEST).key(path, reference=True),
        *(
            Encoder(backbone, AUTO, other).key(path)
            for other in (
                FeatureRequest((1, 2), LocalStream(1)),
                FeatureRequest((1, 3), LocalStream(2)),
                FeatureRequest((1, 3), LocalStream(1, "maskclip")),
                FeatureRequest((1, 3)),
                FeatureRequest((1, 3), LocalStream(1), "after_next_attention"),
                FeatureRequest((1, 3), LocalStream(1), normalise_class=False),
            )
        ),
    ]
    assert len({key, *others}) == 1 + len(others)
    path.write_bytes(copy.read_bytes() + b" ")  # the content under the same name
    assert Encoder(backbone, AUTO, REQUEST).key(path) != key


def rewrite_header(path: Path, header: object) -> None:
    content = torch.frombuffer(bytearray(json.dumps(header).encode()), dtype=torch.uint8)
    save_file(load_file(path) | {"header": content}, path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda p: p.write_bytes(b""),
        lambda p: p.write_bytes(b"garbage" * 9),
        lambda p: p.write_bytes(p.read_bytes()[:-7]),
        lambda p: save_file({"0.image": torch.zeros(1, 24)}, p),
        lambda p: rewrite_header(p, {"size": [60, 80]}),
        lambda p: rewrite_header(p, [1, 2]),
        lambda p: save_file({"header": load_file(p)["header"]}, p),
        lambda p: p.write_bytes(p.read_bytes()[:-1] + bytes([p.read_bytes()[-1] ^ 1])),
        lambda p: save_file(load_file(p) | {"0.image": torch.zeros(1, 24)}, p),
        lambda p: save_file({name: t for name, t in load_file(p).items() if name != "sha256"}, p),
    ],
    ids=[
        "empty",
        "garbage",
        "truncated",
        "no-header",
        "other-header",
        "list-header",
        "no-tensors",
        "one-bit",
        "zeroed",
        "no-digest",
    ],
)
def test_a_damaged_cache_file_counts_as_absent_and_is_written_anew(backbone, tmp_path, damage):
    path, store = photo_file(tmp_path / "a.png"), FeatureStore(tmp_path / "store")
    (expected,) = Encoder(backbone, AUTO, REQUEST, cache=store).encode_files([path])
    (stored,) = (tmp_path / "store").rglob("*.safetensors")
    damage(stored)
    encoder = Counting(backbone, AUTO, REQUEST, cache=store)
    same(encoder.encode_files([path])[0], expected)
    same(encoder.encode_files([path])[0], expected)
    assert encoder.ran == 1


def test_a_cache_that_can_be_read_but_not_written_still_gives_its_features(backbone, tmp_path, monkeypatch):
    path, store = photo_file(tmp_path / "a.png"), FeatureStore(tmp_path / "store")
    (expected,) = Encoder(backbone, AUTO, REQUEST, cache=store).encode_files([path])

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(module.os, "utime", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    encoder = Counting(backbone, AUTO, REQUEST, cache=store)
    same(encoder.encode_files([path])[0], expected)
    assert encoder.ran == 0


def test_a_cache_hit_lies_on_the_device_of_the_backbone(tmp_path):
    """The key does not name the device, so features that were encoded on a CPU are read back for a GPU."""
    path, store = photo_file(tmp_path / "a.png"), FeatureStore(tmp_path / "store")
    Encoder(tiny_backbone(), AUTO, REQUEST, cache=store).encode_files([path])
    elsewhere = tiny_backbone()
    elsewhere.vision.to("meta")  # a device that every machine has
    encoder = Counting(elsewhere, AUTO, REQUEST, cache=store)
    (hit,) = encoder.encode_files([path])
    features = hit.features[0]
    assert encoder.ran == 0
    assert {t.device.type for t in (features.image, features.patches, *features.taps.values())} == {"meta"}


def test_without_room_or_rights_for_a_cache_the_features_come_all_the_same(backbone, tmp_path):
    (tmp_path / "store").write_text("a file where the folder should be")
    encoder = Counting(backbone, AUTO, REQUEST, cache=FeatureStore(tmp_path / "store"))
    paths = [photo_file(tmp_path / "a.png")]
    same(encoder.encode_files(paths)[0], encoder.encode_files(paths)[0])
    assert encoder.ran == 2


def stored_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*.safetensors"))


def test_the_longest_unused_features_go_when_the_limit_is_passed(backbone, tmp_path):
    (encoded,) = Encoder(backbone, AUTO, REQUEST).encode([noise((60, 80))])
    probe = FeatureStore(tmp_path / "probe")
    probe.put("a" * 64, encoded)
    size = stored_bytes(probe.folder)
    store = FeatureStore(tmp_path / "store", max_bytes=int(4.5 * size))
    keys = [f"{number:064x}" for number in range(6)]
    for number, key in enumerate(keys[:4]):
        store.put(key, encoded)
        os.utime(store._path(key), (1000 + number, 1000 + number))
    assert store.get(keys[0]) is not None  # used now, so the second is the longest unused
    store.put(keys[4], encoded)
    assert stored_bytes(store.folder) <= store.max_bytes
    assert [store.get(key) is not None for key in keys[:5]] == [True, False, True, True, True]
    store = FeatureStore(tmp_path / "store", max_bytes=store.max_bytes)
    for key in (*keys, *keys):
        store.put(key, encoded)
        assert stored_bytes(store.folder) <= store.max_bytes
    assert FeatureStore(tmp_path / "store", 10).get(keys[5]) is not None


def test_a_store_that_starts_above_the_limit_is_cut_at_the_first_write(backbone, tmp_path):
    (encoded,) = Encoder(backbone, AUTO, REQUEST).encode([noise((60, 80))])
    wide = FeatureStore(tmp_path)
    for number in range(6):
        wide.put(f"{number:064x}", encoded)
    total = stored_bytes(tmp_path)
    narrow = FeatureStore(tmp_path, max_bytes=total // 3)
    narrow.put("f" * 64, encoded)
    assert stored_bytes(tmp_path) <= total // 3 and narrow.get("f" * 64) is not None


def test_a_photo_that_cannot_be_read_is_a_photo_error_and_not_cached(backbone, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no photo")
    with pytest.raises(PhotoError):
        Encoder(backbone, AUTO, REQUEST, cache=FeatureStore(tmp_path / "store")).encode_files([bad])
    assert stored_bytes(tmp_path) == 0


def test_the_users_store_lies_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMPTAD_HOME", str(tmp_path))
    assert default_store().folder == tmp_path / "features" and default_store().max_bytes == 4 * 1024**3


def test_photos_that_do_not_fit_are_said_and_the_others_serve_every_pass(backbone, tmp_path):
    (encoded,) = Encoder(backbone, AUTO, REQUEST).encode([noise((60, 80))])
    FeatureStore(tmp_path / "probe").put("a" * 64, encoded)
    size = stored_bytes(tmp_path / "probe")
    store = FeatureStore(tmp_path / "store", max_bytes=4 * size)
    keys = [f"{number:064x}" for number in range(8)]

    def one_pass() -> int:
        hits = 0
        for number, key in enumerate(keys):
            hits += store.get(key) is not None
            store.put(key, encoded) if not store._path(key).exists() else None
            os.utime(store.folder, (number, number))
        return hits

    assert one_pass() == 0
    with pytest.warns(PromptadNotice, match="features of this run are more than .*feature.disk.* keeps more"):
        one_pass()
    assert one_pass() == one_pass() >= 3  # a plain last-in-first-out cache would hit none
    assert stored_bytes(store.folder) <= store.max_bytes


def test_every_kind_of_feature_comes_back_from_the_store(backbone, tmp_path):
    request = FeatureRequest((1, 2), LocalStream(1), windows=(2,), inputs=True)
    (encoded,) = Encoder(backbone, AUTO, request).encode([noise((60, 80))])
    store = FeatureStore(tmp_path)
    store.put("a" * 64, encoded)
    for before, after in zip(encoded.features, store.get("a" * 64).features, strict=True):
        assert after.tensors().keys() == {"image", "patches", "tap1", "tap2", "window2", "inputs"}
        assert all(torch.equal(after.tensors()[name], tensor) for name, tensor in before.tensors().items())


@pytest.mark.parametrize(("precision", "share"), [("bf16", 0.5), ("fp32", 1.0)])
def test_what_16_bits_hold_exactly_takes_16_bits_and_comes_back_the_same(backbone, tmp_path, precision, share):
    (encoded,) = Encoder(backbone, AUTO, REQUEST).encode([noise((60, 80))])
    if precision == "bf16":
        rounded = [features.each(lambda tensor: tensor.bfloat16().float()) for features in encoded.features]
        encoded = replace(encoded, features=rounded)
    assert encoded.narrowed().nbytes == share * encoded.nbytes
    store = FeatureStore(tmp_path)
    store.put("a" * 64, encoded)
    for same in (store.get("a" * 64), encoded.narrowed().widened()):
        for before, after in zip(encoded.features, same.features, strict=True):
            assert after.image.dtype == torch.float32 and torch.equal(after.image, before.image)
            assert torch.equal(after.patches, before.patches)
            assert all(torch.equal(after.taps[layer], tap) for layer, tap in before.taps.items())
