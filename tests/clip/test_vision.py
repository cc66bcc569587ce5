"""The image tower against a slow reference that is written here from the formulas, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from promptad.clip.features import FeatureRequest, Features, LocalStream, concatenate, window_patches
from promptad.clip.vision import VisionTower, resize_positions
from promptad.errors import ConfigError
from tiny import tiny_backbone

DEPTH, PATCH, WIDTH = 4, 8, 32
LOCALS = [LocalStream(start, kind) for start in range(1, DEPTH + 1) for kind in ("vv", "maskclip", "qk")]


@pytest.fixture(scope="module", autouse=True)
def tower() -> Iterator[VisionTower]:
    """Every weight, bias and norm moved, so that no term of a formula can be left out unseen."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two threads on a busy machine wait for each other at every tiny layer
    tower = tiny_backbone().vision
    generator = torch.Generator().manual_seed(5)
    for parameter in tower.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    yield tower
    torch.set_num_threads(threads)


def photos(height: int = 48, width: int = 48, count: int = 2) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(height + width))


class Slow:
    """One photo at a time, one head at a time."""

    def __init__(self, tower: VisionTower) -> None:
        self.w = {name: value.double() for name, value in tower.state_dict().items()}
        self.heads = tower.sizes.heads

    def norm(self, name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def attention(self, block: str, x: Tensor, kind: str) -> Tensor:
        """Attention residual of one block, of the kind "qk", "vv" or "maskclip"."""
        a, joined = self.norm(f"{block}.ln_1", x), []
        q, k, v = self.linear(f"{block}.attention.qkv", a).chunk(3, dim=-1)
        size = q.shape[-1] // self.heads
        for head in range(self.heads):
            columns = slice(head * size, (head + 1) * size)
            left, right = (q, k) if kind == "qk" else (v, v)
            weights = left[:, columns] @ right[:, columns].T / size**0.5
            joined.append(v[:, columns] if kind == "maskclip" else torch.softmax(weights, dim=-1) @ v[:, columns])
        return self.linear(f"{block}.attention.out", torch.cat(joined, dim=-1))

    def mlp(self, block: str, x: Tensor) -> Tensor:
        hidden = self.linear(f"{block}.mlp_in", self.norm(f"{block}.ln_2", x))
        return self.linear(f"{block}.mlp_out", hidden / (1 + torch.exp(-1.702 * hidden)))

    def tokens(self, image: Tensor, positions: Tensor) -> Tensor:
        kernel, rows = self.w["patch_embedding.weight"].flatten(1), [self.w["class_embedding"]]
        for y in range(0, image.shape[1], PATCH):
            for x in range(0, image.shape[2], PATCH):
                rows.append(kernel @ image[:, y : y + PATCH, x : x + PATCH].double().flatten())
        return torch.stack(rows) + positions.double()

    def run(self, tokens: Tensor, local: LocalStream | None) -> list[tuple[Tensor, Tensor, Tensor | None]]:
        """Per block: stream before its MLP, after it, and the local stream."""
        x, z, out = self.norm("ln_pre", tokens), None, []
        for layer in range(1, DEPTH + 1):
            block = f"blocks.{layer - 1}"
            if local is not None and local.attention != "qk" and layer >= local.start:
                z = (x if z is None else z) + self.attention(block, x, local.attention)
            between = x + self.attention(block, x, "qk")
            x = between + self.mlp(block, between)
            out.append((between, x, z))
        return out

    def project(self, rows: Tensor) -> Tensor:
        return self.norm("ln_post", rows) @ self.w["projection.weight"].T


def slow_run(tower: VisionTower, images: Tensor, local: LocalStream | None) -> list[list]:
    slow = Slow(tower)
    positions = resize_positions(tower.position_embedding, tower.grid(*images.shape[-2:]), tower.position_resize)
    return [slow.run(slow.tokens(image, positions), local) for image in images]


def close(ours: Tensor, expected: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(ours.double(), expected.double(), atol=atol, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("local", LOCALS, ids=lambda local: f"{local.attention}-from-{local.start}")
def test_both_streams_equal_the_slow_reference_and_the_local_one_changes_nothing(tower, local):
    images, layers = photos(), tuple(range(1, DEPTH + 1))
    plain = tower(images, FeatureRequest(layers))
    ours = tower(images, FeatureRequest(layers, local))
    assert plain.patches is None and ours.patches is not None
    close(ours.image, plain.image, 1e-6)
    for row, blocks in enumerate(slow_run(tower, images, local)):
        for layer in layers:
            close(ours.taps[layer][row], plain.taps[layer][row], 1e-6)
            close(ours.taps[layer][row], blocks[layer - 1][1][1:])
        last, z = blocks[-1][1], blocks[-1][2]
        close(ours.image[row], Slow(tower).project(last[0]))
        close(ours.patches[row], Slow(tower).project((last if z is None else z)[1:]))


@torch.no_grad()
def test_the_three_kinds_of_local_stream_and_its_starts_are_different_features(tower):
    streams = [tower(photos(), FeatureRequest((), local)).patches for local in LOCALS if local.attention != "qk"]
    streams.append(tower(photos(), FeatureRequest((), LocalStream(1, "qk"))).patches)
    for first in range(len(streams)):
        for second in range(first):
            assert (streams[first] - streams[second]).abs().max() > 1e-3


@torch.no_grad()
@pytest.mark.parametrize("start", range(1, DEPTH + 1))
def test_with_zero_values_the_local_stream_stays_the_input_of_its_first_block(start):
    tower = tiny_backbone(3).vision
    for block in tower.blocks:
        block.attention.qkv.weight[2 * WIDTH :] = 0
        block.attention.qkv.bias[2 * WIDTH :] = 0
        block.attention.out.bias.zero_()
    tokens = tower.embed(photos())
    states = list(tower.streams(tokens, LocalStream(start)))
    before = [tower.ln_pre(tokens), *(x for _, x, _ in states)]
    for layer, (_, _, z) in enumerate(states, start=1):
        if layer < start:
            assert z is None
        else:
            torch.testing.assert_close(z, before[start - 1], atol=0, rtol=0)


@torch.no_grad()
def test_layers_differ_and_are_not_changed_by_later_blocks(tower):
    images, seen = photos(), []
    for state in tower.streams(tower.embed(images), LocalStream(2)):
        seen.append([(tensor, tensor.clone()) for tensor in state if tensor is not None])
    for kept, at_once in (pair for state in seen for pair in state):
        assert torch.equal(kept, at_once)
    taps = tower(images, FeatureRequest((4, 1, 2, 3), LocalStream(2))).taps
    assert list(taps) == [4, 1, 2, 3]
    for layer, tap in taps.items():
        assert torch.equal(tap, seen[layer - 1][1][1][:, 1:])
        for other in range(1, layer):
            assert (tap - taps[other]).abs().max() > 1e-2


@torch.no_grad()
def test_after_next_attention_is_the_tap_plus_the_attention_of_the_following_block(tower):
    images = photos()
    request = FeatureRequest((1, 3), LocalStream(1), tap_point="after_next_attention")
    ours, plain = tower(images, request), tower(images, replace(request, tap_point="block"))
    for row, blocks in enumerate(slow_run(tower, images, None)):
        for layer in (1, 3):
            output = blocks[layer - 1][1]
            residual = Slow(tower).attention(f"blocks.{layer}", output, "qk")
            close(ours.taps[layer][row], (output + residual)[1:])
            assert (ours.taps[layer] - plain.taps[layer]).abs().max() > 1e-3
    close(ours.image, plain.image, 0)


def slow_pooled(rows: Tensor, grid: tuple[int, int], side: int) -> Tensor:
    """Each position the mean of those of the window around it that are there."""
    square, reach = rows.unflatten(1, grid), side // 2
    return torch.stack(
        [
            square[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1].mean((1, 2))
            for y in range(grid[0])
            for x in range(grid[1])
        ],
        dim=1,
    )


@torch.no_grad()
@pytest.mark.parametrize("pool", [1, 3])
def test_next_norm_is_the_tap_through_the_norm_that_reads_it(tower, pool):
    images = photos()
    request = FeatureRequest((1, 3, 4), tap_point="next_norm", tap_pool=pool)
    ours, plain = tower(images, request), tower(images, FeatureRequest((1, 3, 4)))
    for layer, name in ((1, "blocks.1.ln_1"), (3, "blocks.3.ln_1"), (4, "ln_post")):
        expected = slow_pooled(Slow(tower).norm(name, plain.taps[layer].double()), ours.grid, pool)
        close(ours.taps[layer], expected)
        assert (ours.taps[layer] - plain.taps[layer]).abs().max() > 1e-3


@torch.no_grad()
def test_class_token_without_its_norm(tower):
    images = photos()
    ours = tower(images, FeatureRequest(normalise_class=False)).image
    for row, blocks in enumerate(slow_run(tower, images, None)):
        close(ours[row], blocks[-1][1][0] @ tower.projection.weight.double().T)


@torch.no_grad()
@pytest.mark.parametrize("size", [(24, 72), (80, 16), (8, 8), (64, 64)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_other_grids_are_row_major_with_resized_positions(tower, size, mode, monkeypatch):
    monkeypatch.setattr(tower, "position_resize", mode)
    images = photos(*size)
    ours = tower(images, FeatureRequest((2,), LocalStream(1)))
    assert ours.grid == (size[0] // PATCH, size[1] // PATCH)
    for row, blocks in enumerate(slow_run(tower, images, LocalStream(1))):
        close(ours.taps[2][row], blocks[1][1][1:])
        close(ours.patches[row], Slow(tower).project(blocks[-1][2][1:]))
    monkeypatch.setattr(tower, "position_resize", "bicubic" if mode == "bilinear" else "bilinear")
    asked = tower(images, FeatureRequest((2,), LocalStream(1), positions=mode))  # a request has the last word
    assert torch.equal(asked.patches, ours.patches) and torch.equal(asked.image, ours.image)


@pytest.mark.parametrize("grid", [(9, 9), (4, 3), (3, 14), (1, 1), (37, 2)])
def test_positions_are_resized_as_numpy_and_pillow_do_it(grid):
    table = torch.randn(1 + 36, 5, generator=torch.Generator().manual_seed(1))
    square = table[1:].view(6, 6, 5).numpy()

    def lines(values: np.ndarray, count: int) -> np.ndarray:  # bilinear is linear interpolation, axis by axis
        at = (np.arange(count) + 0.5) * len(values) / count - 0.5
        flat = values.reshape(len(values), -1)
        columns = [np.interp(at, np.arange(len(values)), column) for column in flat.T]
        return np.stack(columns, axis=1).reshape(count, *values.shape[1:])

    expected = lines(lines(square, grid[0]).swapaxes(0, 1), grid[1]).swapaxes(0, 1)
    ours = resize_positions(table, grid, "bilinear")
    assert torch.equal(ours[0], table[0])
    np.testing.assert_allclose(ours[1:].numpy(), expected.reshape(-1, 5), atol=1e-5)

    size = (grid[1], grid[0])
    channels = [Image.fromarray(np.ascontiguousarray(square[..., c])) for c in range(5)]
    pillow = np.stack([np.asarray(channel.resize(size, Image.Resampling.BICUBIC)) for channel in channels], axis=-1)
    ours = resize_positions(table, grid, "bicubic")
    assert torch.equal(ours[0], table[0])
    np.testing.assert_allclose(ours[1:].numpy(), pillow.reshape(-1, 5), atol=1e-4)


def test_positions_of_the_own_grid_and_dtype_are_kept():
    table = torch.randn(1 + 36, 5)
    assert resize_positions(table, (6, 6), "bicubic") is table
    assert resize_positions(table.bfloat16(), (4, 6), "bilinear").dtype == torch.bfloat16


@torch.no_grad()
def test_windows(tower):
    images = photos()
    whole = tower.encode_windows(images, torch.arange(36)[None])
    close(whole[:, 0], tower(images).image, 1e-5)
    windows = torch.tensor([[0, 1, 6, 7], [21, 22, 27, 28], [28, 29, 34, 35]])
    ours, slow = tower.encode_windows(images, windows), Slow(tower)
    assert ours.shape == (2, 3, 24)
    for row, image in enumerate(images):
        tokens = slow.tokens(image, tower.position_embedding)
        for number, window in enumerate(windows):
            short = torch.cat([tokens[:1], tokens[1:][window]])
            close(ours[row, number], slow.project(slow.run(short, None)[-1][1][0]))


@pytest.mark.parametrize(
    ("size", "request_"),
    [
        ((48, 48), FeatureRequest((0,))),
        ((48, 48), FeatureRequest((-1,))),
        ((48, 48), FeatureRequest((1, 5))),
        ((48, 48), FeatureRequest((4,), tap_point="after_next_attention")),
        ((48, 48), FeatureRequest((), LocalStream(0))),
        ((48, 48), FeatureRequest((), LocalStream(5))),
        ((49, 48), FeatureRequest()),
        ((48, 44), FeatureRequest()),
        ((0, 48), FeatureRequest()),
    ],
)
def test_layers_and_sizes_that_do_not_exist_raise_one_line(tower, size, request_):
    with pytest.raises(ConfigError) as caught:
        tower(torch.zeros(1, 3, *size), request_)
    assert "\n" not in str(caught.value)


@torch.no_grad()
def test_bfloat16_gives_float32_features_close_to_the_full_precision():
    tower, images = tiny_backbone().vision, photos()
    request = FeatureRequest((1, 3), LocalStream(1))
    full = tower(images, request)
    half = tower.to(torch.bfloat16)(images, request)
    for ours, expected in (
        (half.image, full.image),
        (half.patches, full.patches),
        (half.taps[3], full.taps[3]),
    ):
        assert ours.dtype == torch.float32
        assert F.cosine_similarity(ours, expected, dim=-1).min() > 0.999


@torch.no_grad()
def test_batches_are_cut_and_joined(tower):
    whole = tower(photos(count=3), FeatureRequest((2,), LocalStream(1)))
    joined = concatenate([whole[0:1], whole[1:3]])
    assert [len(whole[0:1]), len(whole[1:3])] == [1, 2]
    assert joined.grid == whole.grid and torch.equal(joined.image, whole.image)
    assert torch.equal(joined.patches, whole.patches) and torch.equal(joined.taps[2], whole.taps[2])
    plain = Features(whole.image, None, {}, whole.grid)
    assert concatenate([plain, plain]).patches is None
    with pytest.raises(ConfigError, match="grids"):
        concatenate([whole, tower(photos(48, 64), FeatureRequest((2,), LocalStream(1)))])


@torch.no_grad()
def test_windows_and_the_input_itself_come_with_the_other_features(tower):
    images, request = photos(48, 64, 3), FeatureRequest((2,), LocalStream(1), windows=(2, 3), inputs=True)
    features = tower(images, request)
    assert torch.equal(features.inputs, images)
    for side in (2, 3):
        windows = window_patches(features.grid, side)
        close(features.windows[side], tower.encode_windows(images, windows), 1e-6)
        close(features.windows[side], tower.encode_windows(images, windows, batch=5), 1e-6)
    assert not tower(images).windows and tower(images).inputs is None
    parts = concatenate([features[0:1], features[1:3]])
    assert parts.tensors().keys() == {"image", "patches", "tap2", "window2", "window3", "inputs"}
    assert all(torch.equal(tensor, features.tensors()[name]) for name, tensor in parts.tensors().items())
    assert parts.nbytes == features.nbytes
    with pytest.raises(ConfigError, match="different tensors"):
        concatenate([features, tower(images, FeatureRequest((2,)))])
    with pytest.raises(ConfigError, match="windows of 7x7"):
        tower(images, FeatureRequest(windows=(7,)))


def test_taps_of_turned_copies_travel_with_the_features(tower):
    features = tower(photos(count=3), FeatureRequest((2,)))
    turned = torch.stack([features.taps[2], features.taps[2] * 2], dim=1)
    named = replace(features, turned={2: turned}).tensors()
    assert named.keys() == {"image", "tap2", "turned2"}
    again = Features.with_tensors(named, features.grid)
    assert torch.equal(again.turned[2], turned) and torch.equal(again[1:2].turned[2], turned[1:2])


@torch.no_grad()
@pytest.mark.parametrize("stream", ["original", "local"])
@pytest.mark.parametrize("kind", ["vv", "maskclip"])
def test_taps_come_in_the_stream_and_the_space_that_are_asked_for(tower, stream, kind):
    images, local = photos(48, 64), LocalStream(2, kind)
    blocks = list(tower.streams(tower.embed(images), local))
    for layer in (2, 4):
        _, x, z = blocks[layer - 1]
        rows = x if stream == "original" else torch.cat([x[:, :1], z[:, 1:]], dim=1)
        spaces = {"block": rows, "normed": tower.ln_post(rows), "joint": tower.projection(tower.ln_post(rows))}
        for space, expected in spaces.items():
            request = FeatureRequest((layer,), local, tap_class=True, tap_space=space, tap_stream=stream)
            close(tower(images, request).taps[layer], expected, 1e-6)
            close(tower(images, replace(request, tap_class=False)).taps[layer], expected[:, 1:], 1e-6)
    # The last block in the joint space is what the tower gives for views and patches anyway.
    features = tower(images, FeatureRequest((4,), local, tap_class=True, tap_space="joint", tap_stream="local"))
    close(features.taps[4], torch.cat([features.image[:, None], features.patches], dim=1), 1e-6)


@pytest.mark.parametrize(
    "request_",
    [
        FeatureRequest((2,), tap_stream="local"),
        FeatureRequest((1, 3), LocalStream(2), tap_stream="local"),
        FeatureRequest((2,), LocalStream(1, "qk"), tap_stream="local"),
        FeatureRequest((2,), LocalStream(1), tap_stream="local", tap_point="after_next_attention"),
    ],
)
def test_taps_of_a_local_stream_that_is_not_there_are_refused(tower, request_):
    with pytest.raises(ConfigError, match="local stream need one"):
        tower(photos(), request_)
    with pytest.raises(ConfigError, match="a space of their own"):
        tower(photos(), replace(request_, tap_stream="original", tap_point="next_norm", tap_space="joint"))


def test_requests_of_before_keep_their_name_in_caches():
    assert FeatureRequest((1,)).decides().keys() == {
        "taps",
        "local",
        "tap_point",
        "normalise_class",
        "tap_class",
        "positions",
    }
    assert FeatureRequest(windows=(2,)).decides()["windows"] == (2,)
    assert FeatureRequest(inputs=True).decides() != FeatureRequest().decides()


@torch.no_grad()
def test_maskclip_reads_the_values_of_the_last_block(tower):
    images = photos()
    before = list(tower.streams(tower.embed(images)))[-2][1]
    last = tower.blocks[-1]
    values = last.attention.merge(last.attention.project(last.ln_1(before))[2])
    official = before + values
    official = official + last.mlp(official)
    expected = {"maskclip_official": official, "maskclip_pure": values}
    for attention, rows in expected.items():
        ours = tower(images, FeatureRequest(local=LocalStream(1, attention))).patches
        close(ours, tower.projection(tower.ln_post(rows[:, 1:])), 1e-6)
        with pytest.raises(ConfigError, match="last block alone"):
            tower(images, FeatureRequest(local=LocalStream(2, attention)))


@torch.no_grad()
def test_an_ordinary_last_block_with_identity_attention_is_maskclip(tower, monkeypatch):
    images, request = photos(), FeatureRequest(local=LocalStream(1, "maskclip_official"))
    ours = tower(images, request).patches
    real, blocks = torch.nn.functional.scaled_dot_product_attention, []

    def identity_in_the_last(q, k, v):
        blocks.append(None)
        return v if len(blocks) == len(tower.blocks) else real(q, k, v)

    monkeypatch.setattr("promptad.clip.vision.F.scaled_dot_product_attention", identity_in_the_last)
    close(tower(images, FeatureRequest(local=LocalStream(1, "qk"))).patches, ours, 1e-6)


@torch.no_grad()
def test_pure_maskclip_of_a_photo_of_one_patch_is_the_output_of_its_value(tower):
    images, slow, last = photos(PATCH, PATCH), Slow(tower), f"blocks.{DEPTH - 1}"
    ours = tower(images, FeatureRequest(local=LocalStream(1, "maskclip_pure"))).patches
    assert ours.shape[1] == 1
    for row, blocks in enumerate(slow_run(tower, images, None)):
        value = slow.linear(f"{last}.attention.qkv", slow.norm(f"{last}.ln_1", blocks[-2][1])).chunk(3, dim=-1)[2]
        close(ours[row], slow.project(slow.linear(f"{last}.attention.out", value))[1:])
