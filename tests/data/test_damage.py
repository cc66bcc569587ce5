"""Painted damage: masks that tell the truth, the same files from the same seed, and a layout that reads back."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from promptad.data import damage
from promptad.data.damage import check_kinds, damaged, varied, write_damaged
from promptad.data.damage_drawing import VISIBLE
from promptad.data.damage_kinds import KINDS
from promptad.data.damage_shapes import blob, fractal, path, soft, stroke
from promptad.data.datasets.mvtec import load
from promptad.data.files import sha256_file
from promptad.data.harmless import relit
from promptad.data.object_region import object_region
from promptad.data.photos import read_mask, read_photo
from promptad.data.pixels import Rgb
from promptad.errors import ConfigError, DataError, PhotoError


def texture(seed: int = 0, shape: tuple[int, int] = (96, 112)) -> Rgb:
    """A cloudy, grainy surface."""
    generator = np.random.default_rng(seed)
    grey = 128 + 20 * fractal(shape, generator, 30)
    return np.clip(grey[..., None] * [1.1, 1.0, 0.8] + generator.normal(0, 6, (*shape, 1)), 0, 255).astype(np.uint8)


def disc() -> Rgb:
    """An object on a plain, slightly noisy background: a lighter disc in the middle."""
    photo = texture(3, (120, 120))
    rows, columns = np.indices((120, 120))
    ground = np.random.default_rng(1).normal(30, 3, (120, 120, 3))
    return np.where((np.hypot(rows - 60, columns - 60) < 35)[..., None], photo, ground).astype(np.uint8)


def save(folder: Path, count: int) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        Image.fromarray(texture(index, (64, 64))).save(folder / f"{index}.png")
    return sorted(folder.iterdir())


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("photo", [texture(), disc()], ids=["texture", "object"])
def test_the_mask_is_where_pixels_changed(kind: str, photo: Rgb) -> None:
    before = photo.copy()
    for seed in range(3):
        result, mask = damaged(photo, kind, seed=seed, name="a")
        assert result.dtype == np.uint8 and result.shape == photo.shape
        assert mask.dtype == bool and mask.shape == photo.shape[:2]
        change = np.abs(result.astype(int) - photo).max(2)
        assert (change[~mask] == 0).all()
        # Gaps inside a place are closed, as a person would outline it; most of it differs all the same.
        assert (change[mask] >= VISIBLE).mean() > 0.5
        assert 12 <= mask.sum() < 0.5 * mask.size
    assert (photo == before).all()


@pytest.mark.parametrize("kind", KINDS)
def test_seed_and_name_decide(kind: str) -> None:
    photo = texture()
    first, mask = damaged(photo, kind, seed=1, name="a")
    again, same = damaged(photo, kind, seed=1, name="a")
    assert (first == again).all() and (mask == same).all()
    for seed, name in ((2, "a"), (1, "b")):
        assert (damaged(photo, kind, seed=seed, name=name)[1] != mask).any()


def test_sizes_go_from_tiny_to_large() -> None:
    photo = texture()
    shares = [damaged(photo, "stain", seed=seed, name="")[1].mean() for seed in range(30)]
    assert min(shares) < 0.005 and max(shares) > 0.04
    assert 0.03 < damaged(photo, "discolouration", seed=0, name="", area=0.06)[1].mean() < 0.12


def test_damage_lies_on_the_object() -> None:
    photo = disc()
    region = object_region(photo)
    rows, columns = np.indices((120, 120))
    inside = np.hypot(rows - 60, columns - 60) < 35
    assert (region & inside).sum() / (region | inside).sum() > 0.9
    for kind in set(KINDS) - {"thread", "debris", "misplaced", "foreign_body"}:  # these lie on top and may hang over
        shares = [inside[damaged(photo, kind, seed=seed, name="")[1]].mean() for seed in range(4)]
        assert np.mean(shares) > 0.8, kind


def test_the_hole_of_a_ring_is_no_object() -> None:
    photo, (rows, columns) = disc(), np.indices((120, 120))
    photo[np.hypot(rows - 60, columns - 60) < 12] = 30
    photo[60:64, 80:84] = 30  # a dark spot on the object belongs to it
    region = object_region(photo)
    assert not region[55:65, 55:65].any() and region[60:64, 80:84].all()


@pytest.mark.parametrize("photo", [texture(), np.full((60, 60, 3), 90, np.uint8)], ids=["texture", "plain"])
def test_a_texture_is_object_everywhere(photo: Rgb) -> None:
    assert object_region(photo).all()


def test_a_missing_piece_shows_the_background() -> None:
    photo = disc()
    result, mask = damaged(photo, "missing_piece", seed=0, name="", area=0.03)
    assert np.median(result[mask]) < 60 < np.median(photo[mask])


def test_foreign_texture_comes_from_the_donor() -> None:
    photo, blue = texture(), np.zeros((20, 30, 3), np.uint8) + np.array([0, 0, 255], np.uint8)
    results = [damaged(photo, "foreign_texture", seed=seed, name="", donor=blue)[0] for seed in range(8)]
    results_without = [damaged(photo, "foreign_texture", seed=seed, name="")[0] for seed in range(8)]
    assert any((a != b).any() for a, b in zip(results, results_without, strict=True))


def unseen(photo: Rgb, *_: object) -> tuple[Rgb, np.ndarray]:
    return photo, np.zeros(photo.shape[:2], bool)


def test_what_cannot_be_seen_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "dent", unseen)
    with pytest.raises(PhotoError, match=r"a\.png: a dent cannot be seen .*of kinds$"):
        damaged(texture(), "dent", seed=0, name="a.png")


def test_arguments_out_of_range() -> None:
    with pytest.raises(ConfigError, match="kind 'dust' is not known; expected some of scratch"):
        damaged(texture(), "dust", seed=0, name="")
    with pytest.raises(ConfigError, match="seed is -1"):
        damaged(texture(), "hole", seed=-1, name="")
    with pytest.raises(PhotoError, match=r"a: is 20x10; expected 48 pixels a side"):
        damaged(np.zeros((10, 20, 3), np.uint8), "hole", seed=0, name="a")
    assert check_kinds([]) == list(KINDS)
    assert check_kinds(["hole", "crack", "hole"]) == ["hole", "crack"]


@pytest.mark.parametrize("shape", [(64, 64), (50, 120), (120, 50)])
def test_a_varied_copy_is_the_photo_seen_a_little_differently(shape: tuple[int, int]) -> None:
    photo = texture(0, shape)
    photo[:] = np.maximum(photo, 60)  # invented corners would be black
    for seed in range(6):
        copy = varied(photo, np.random.default_rng(seed))
        assert copy.shape == photo.shape and copy.dtype == np.uint8
        assert (copy != photo).any()
        assert abs(copy.mean() - photo.mean()) < 30
        assert copy.min() > 30


def test_a_blob_covers_the_area_it_is_asked_for() -> None:
    generator = np.random.default_rng(0)
    for area in (0.001, 0.01, 0.1):
        depth = blob((100, 200), generator, np.array([50.0, 80.0]), area, 0.3)
        assert (depth > 0).sum() == pytest.approx(area * 20_000, abs=2)
        rows, columns = np.nonzero(depth > 0)
        assert abs(rows.mean() - 50) < 25 and abs(columns.mean() - 80) < 25
    assert soft(np.array([[-9.0, 0.0, 9.0]], np.float32), 2.0).tolist() == [[0.0, 0.5, 1.0]]


def test_a_stroke_has_its_width_and_may_leave_the_photo() -> None:
    line = stroke((40, 60), np.array([[20.0, -10.0], [20.0, 70.0]]), 3.0)
    assert line.shape == (40, 60) and line.sum(0) == pytest.approx(3.0, abs=0.8)
    assert stroke((40, 60), np.array([[-50.0, 0.0], [-50.0, 9.0]]), 3.0).max() == 0
    points = path(np.random.default_rng(0), np.array([5.0, 5.0]), 0.0, 50.0, 0.0, both_ways=False, curl=0.0)
    assert points[0].tolist() == [5.0, 5.0] and points[-1][1] == pytest.approx(55, abs=10)


def test_fractal_noise_is_even_and_of_its_scale() -> None:
    for scale in (2.0, 20.0, 5000.0):
        noise = fractal((70, 90), np.random.default_rng(0), scale)
        assert noise.shape == (70, 90) and noise.dtype == np.float32
        assert noise.mean() == pytest.approx(0, abs=1e-3) and noise.std() == pytest.approx(1, abs=1e-3)


def test_a_written_set_reads_back(tmp_path: Path) -> None:
    photos = save(tmp_path / "in", 5)
    seen: list[tuple[int, int | None]] = []
    folder = write_damaged(
        photos,
        tmp_path / "out",
        count=6,
        kinds=["hole", "stain"],
        seed=4,
        class_name="metal nut",
        progress=lambda done, total: seen.append((done, total)),
    )
    assert folder == tmp_path / "out" / "metal_nut"
    records = load(tmp_path / "out")
    by_type = {}
    for record in records:
        by_type.setdefault((record.split, record.defect_type), []).append(record)
        assert record.class_name == "metal_nut"
    assert {key: len(group) for key, group in by_type.items()} == {
        ("train", "good"): 4,
        ("test", "good"): 3,
        ("test", "hole"): 3,
        ("test", "stain"): 3,
    }
    for record in records:
        photo = read_photo(record.path)
        assert photo.shape == (64, 64, 3)
        if record.label:
            assert record.mask is not None
            mask = read_mask(record.mask, photo.shape[:2])
            assert 0 < mask.mean() < 0.5
    assert seen == [(done, 13) for done in range(1, 14)]
    told = json.loads((folder / "source.json").read_text())
    assert told["seed"] == 4 and told["kinds"] == ["hole", "stain"] and told["promptad"]
    hashes = {entry["sha256"] for use in ("train", "test") for entry in told[f"good photos for {use}"]}
    assert hashes == {sha256_file(photo) for photo in photos}
    names = [{entry["name"] for entry in told[f"good photos for {use}"]} for use in ("train", "test")]
    assert not names[0] & names[1]


def test_the_written_mask_fits_the_written_photo(tmp_path: Path) -> None:
    """Beside JPEG's own noise, photos differ from their undamaged copies inside the mask only."""
    photos = save(tmp_path / "in", 1)
    folder = write_damaged(photos, tmp_path / "out", count=3, kinds=["missing_piece"], seed=0, class_name="x")
    for index in range(3):
        copy = varied(read_photo(photos[0]), damage._generator(0, f"x/test/missing_piece/{index}", "good"))
        photo = read_photo(folder / f"test/missing_piece/{index:03d}.jpg")
        mask = read_mask(folder / f"ground_truth/missing_piece/{index:03d}_mask.png")
        change = np.abs(photo.astype(int) - copy).mean(2)
        assert change[~mask].mean() < 4 < 15 < change[mask].mean()


def test_the_same_seed_gives_the_same_files(tmp_path: Path) -> None:
    photos = save(tmp_path / "in", 2)
    options = dict(count=4, kinds=["crack", "thread"], class_name="x")
    first = files(write_damaged(photos, tmp_path / "a", seed=1, **options))  # type: ignore[arg-type]
    assert files(write_damaged(photos[::-1], tmp_path / "b", seed=1, **options)) == first  # type: ignore[arg-type]
    elsewhere = files(write_damaged(photos, tmp_path / "a", seed=1, **options | {"class_name": "y"}))  # type: ignore[arg-type]
    assert all(elsewhere[name] != first[name] for name in first)
    other = files(write_damaged(photos, tmp_path / "c", seed=2, **options))  # type: ignore[arg-type]
    assert other.keys() == first.keys()
    assert all(other[name] != first[name] for name in first)


def test_light_donors_and_size_change_what_is_drawn(tmp_path: Path) -> None:
    photos = save(tmp_path / "in", 2)
    blue = tmp_path / "blue.png"
    Image.new("RGB", (64, 64), (0, 0, 255)).save(blue)
    options = dict(count=8, kinds=["pasted"], seed=1, class_name="x")

    def drawn(name: str, **more: object) -> tuple[list[Rgb], float]:
        folder = write_damaged(photos, tmp_path / name, **options | more)  # type: ignore[arg-type]
        masks = [read_mask(path_).mean() for path_ in sorted((folder / "ground_truth/pasted").iterdir())]
        return [read_photo(path_) for path_ in sorted((folder / "test/good").iterdir())], max(masks)

    plain, small = drawn("plain")
    assert json.loads((tmp_path / "plain/x/source.json").read_text()).keys().isdisjoint({"largest", "light", "donors"})
    lit, _ = drawn("lit", light=True)
    assert all((before != after).any() for before, after in zip(plain, lit, strict=True))
    _, large = drawn("large", largest=0.4)
    assert large > 1.5 * small
    with pytest.raises(DataError, match="another largest"):
        drawn("plain", largest=0.4)
    with pytest.raises(ConfigError, match=r"largest is 0\.5; expected 0\.001 to 0\.4"):
        drawn("none", largest=0.5)
    drawn("blue", donors=[blue])
    blues = [read_photo(path_).astype(int) for path_ in (tmp_path / "blue/x/test/pasted").iterdir()]
    assert any((photo[..., 2] - photo[..., 0] > 100).mean() > 0.001 for photo in blues)


@pytest.mark.parametrize("level", [12, 60, 128, 200, 244])
def test_what_moves_things_is_seen_on_a_plain_surface_too(level: int) -> None:
    plain = np.random.default_rng(0).normal(level, 1.5, (80, 80, 3)).clip(0, 255).astype(np.uint8)
    for kind in list(KINDS)[12:]:
        assert damaged(plain, kind, seed=0, name="plain")[1].any(), kind


@pytest.mark.parametrize("shape", [(64, 64), (50, 120)])
def test_other_light_changes_no_form(shape: tuple[int, int]) -> None:
    photo = texture(0, shape)
    for seed in range(8):
        lit = relit(photo, np.random.default_rng(seed))
        assert lit.shape == photo.shape and lit.dtype == np.uint8 and (lit != photo).any()
        assert np.corrcoef(_fine(lit), _fine(photo))[0, 1] > 0.6


def _fine(photo: Rgb) -> np.ndarray:
    grey = photo.mean(2)
    return (grey - ndimage.gaussian_filter(grey, 6)).ravel()


def test_an_interrupted_run_goes_on_and_a_larger_count_adds(tmp_path: Path) -> None:
    photos = save(tmp_path / "in", 2)
    options = dict(kinds=["crack", "hole"], seed=1, class_name="x")
    whole = files(write_damaged(photos, tmp_path / "a", count=6, **options))  # type: ignore[arg-type]

    def stop(done: int, total: int | None) -> None:
        if done == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_damaged(photos, tmp_path / "b", count=4, progress=stop, **options)  # type: ignore[arg-type]
    kept = tmp_path / "b" / "x" / "train" / "good" / "000.jpg"
    before = kept.stat().st_mtime_ns
    write_damaged(photos, tmp_path / "b", count=6, **options)  # type: ignore[arg-type]
    assert files(tmp_path / "b" / "x") == whole
    assert kept.stat().st_mtime_ns == before


def test_sets_are_never_mixed(tmp_path: Path) -> None:
    photos = save(tmp_path / "in", 2)
    options = dict(count=1, kinds=["hole"], class_name="x")
    folder = write_damaged(photos, tmp_path, seed=1, **options)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=r"x: holds a practice set with another seed; choose another folder"):
        write_damaged(photos, tmp_path, seed=2, **options)  # type: ignore[arg-type]
    Image.fromarray(texture(9)).save(photos[0])
    with pytest.raises(DataError, match="another good photos for train"):
        write_damaged(photos, tmp_path, seed=1, **options)  # type: ignore[arg-type]
    (folder / "source.json").write_text("{")
    with pytest.raises(DataError, match=r"source\.json: cannot be read"):
        write_damaged(photos, tmp_path, seed=1, **options)  # type: ignore[arg-type]
    (folder / "source.json").unlink()
    with pytest.raises(DataError, match="is not empty and not a practice set"):
        write_damaged(photos, tmp_path, seed=1, **options)  # type: ignore[arg-type]


def test_bad_photos_get_a_line_and_the_rest_goes_on(tmp_path: Path) -> None:
    photos = save(tmp_path / "in", 2)
    broken, tiny = tmp_path / "in" / "broken.png", tmp_path / "in" / "tiny.png"
    broken.write_bytes(b"no photo")
    Image.fromarray(texture()[:20, :30]).save(tiny)
    lines: list[str] = []
    options = dict(count=1, kinds=["hole"], class_name="x")
    write_damaged([broken, tiny, *photos], tmp_path / "out", failed=lines.append, **options)  # type: ignore[arg-type]
    assert len(lines) == 2 and "\n" not in "".join(lines)
    assert lines[0].startswith(str(broken)) and "tiny.png: is 30x20; expected 48" in lines[1]
    with pytest.raises(DataError, match="none of the good photos can be used"):
        write_damaged([broken, tiny], tmp_path / "out", **options)  # type: ignore[arg-type]


def test_damage_that_cannot_be_made_gets_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "hole", unseen)
    lines: list[str] = []
    folder = write_damaged(
        save(tmp_path / "in", 1), tmp_path, count=2, kinds=["hole", "crack"], class_name="x", failed=lines.append
    )
    assert len(lines) == 1 and "0.png: x/test/hole/0: a hole cannot be seen" in lines[0]
    assert not (folder / "test" / "hole").exists()
    assert (folder / "test" / "crack" / "001.jpg").exists()


@pytest.mark.parametrize("name", ["", "  ", "../up", "a/b", "a\\b", ".hidden", "C:x", "two\nlines\0"])
def test_an_object_that_makes_no_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="makes no folder name"):
        write_damaged(save(tmp_path / "in", 1), tmp_path / "out", count=1, class_name=name)
    with pytest.raises(ConfigError, match="count is 0"):
        write_damaged([], tmp_path / "out", count=0, class_name="x")


def test_cookies_stand_out_from_their_tray(shared_data: Path) -> None:
    for path_ in sorted((shared_data / "cookies" / "train" / "good").iterdir())[:3]:
        region = object_region(read_photo(path_))
        assert 0.15 < region.mean() < 0.5
        height, width = region.shape
        assert region[height // 3 : height // 2, width // 3 : 2 * width // 3].mean() > 0.9
