"""Frozen features of photos, encoded once and kept.

The towers never change, so neither do a photo's features: training, calibration and benchmarks read them from here.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from promptad.clip.backbone import Backbone
from promptad.clip.features import FeatureRequest, Features
from promptad.clip.memory_tower import MemoryTower
from promptad.clip.preprocess import Preprocess, View, normalise
from promptad.data.copies import turned_copies
from promptad.data.files import sha256_file, shown, write_atomic
from promptad.data.inspected_area import InspectedArea
from promptad.data.parts import PhotoRef
from promptad.data.photos import as_photo
from promptad.data.tensor_file import content_digest
from promptad.errors import ConfigError, PhotoError, PromptadError
from promptad.inputs import argument
from promptad.learning.inside import only_inside, views_inside
from promptad.notices import notice
from promptad.parsing import parsed_json

Photo = NDArray[np.uint8]
GIB = 1024**3
# Raised whenever towers, views or preprocessing give other values for the same settings: old cache files are then not read.
_FORMAT = 2


@dataclass(frozen=True)
class PhotoFeatures:
    """Features of one photo.

    Attributes:
        size: (H, W) of the photo in pixels. views: its views. features: one batch of size 1 a view.
        seconds: what encoding took; 0 when it came from a cache.
    """

    size: tuple[int, int]
    views: list[View]
    features: list[Features]
    seconds: float = field(default=0.0, compare=False)

    @property
    def nbytes(self) -> int:
        """Memory of the features of all views, in bytes."""
        return sum(view.nbytes for view in self.features)

    def to(self, device: torch.device | str) -> PhotoFeatures:
        """The same features on another device."""
        return replace(self, features=[features.to(device) for features in self.features])

    def narrowed(self) -> PhotoFeatures:
        """The same in half the memory where that loses nothing: values that 16 bits hold exactly, as those of bf16 towers."""
        return replace(self, features=[narrowed(features) for features in self.features])

    def widened(self) -> PhotoFeatures:
        """The float32 features that :meth:`narrowed` was called on."""
        return replace(self, features=[features.each(torch.Tensor.float) for features in self.features])


def narrowed(features: Features) -> Features:
    """The same in half the memory where that loses nothing."""
    return features.each(_narrow)


def _narrow(values: torch.Tensor) -> torch.Tensor:
    for kind in (torch.bfloat16, torch.float16):
        small = values.to(kind)
        if torch.equal(small.to(values.dtype), values):
            return small
    return values


class Encoder:
    """Encodes photos for one backbone, one layout and one request.

    Args:
        backbone: frozen CLIP. preprocess: layout of the views. request: what the method reads.
        batch_size: views of the same size that are encoded together.
        cache: folder store, or None to encode every time. area: where photos are looked at; None everywhere.

    Raises:
        ConfigError: a request for what the image tower cannot give, such as a layer that it has not.
    """

    def __init__(
        self,
        backbone: Backbone,
        preprocess: Preprocess,
        request: FeatureRequest,
        *,
        batch_size: int = 8,
        cache: FeatureStore | None = None,
        area: InspectedArea | None = None,
    ) -> None:
        backbone.vision.require(request)  # here, and not at every photo
        if request.memory is not None:
            if backbone.memory is None:
                raise ConfigError(
                    f"{backbone.name} has no second image tower, and this detector's memory is made of one's tokens"
                )
            backbone.memory.require(request.memory)
        self.backbone, self.preprocess, self.request = backbone, preprocess, request
        self.batch_size, self.cache, self.area = batch_size, cache, area

    def encode(
        self, photos: Sequence[Photo], *, reference: bool = False, learned: bool = False, name: str = ""
    ) -> list[PhotoFeatures]:
        """(H, W, 3) uint8 RGB photos -> their features, in the same order.

        Args:
            reference: they are good photos for `fit`. learned: good photos that it learns from: where the request asks for turned
                copies, these are tapped too.

        Raises:
            PhotoError: a photo that would need too many views; `name` says which one it is.
        """
        if learned:
            encoded = self.encode(photos, reference=True, name=name)
            turned = self.request.turns > 1 or self.request.mirrored
            return list(map(self._with_turned, photos, encoded)) if turned else encoded
        try:
            plans = [self._plan(photo) for photo in photos]
            photos = photos if self.area is None else [self.area.painted(photo) for photo in photos]
        except PhotoError as error:
            raise PhotoError(f"{name}: {error}" if name else str(error)) from error
        groups: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for index, plan in enumerate(plans):
            for number, view in enumerate(plan):
                groups.setdefault(view.size, []).append((index, number))
        views: dict[tuple[int, int], Features] = {}
        seconds = [0.0] * len(photos)
        for members in groups.values():
            for start in range(0, len(members), self.batch_size):
                batch = members[start : start + self.batch_size]
                began = time.perf_counter()
                features = self._encoded([(photos[i], plans[i][n]) for i, n in batch], reference)
                share = (time.perf_counter() - began) / len(batch)
                for row, key in enumerate(batch):
                    views[key] = self._inside(features[row : row + 1], photos[key[0]], plans[key[0]][key[1]])
                    seconds[key[0]] += share
        return [
            PhotoFeatures((photo.shape[0], photo.shape[1]), plan, [views[i, n] for n in range(len(plan))], seconds[i])
            for i, (photo, plan) in enumerate(zip(photos, plans, strict=True))
        ]

    def _plan(self, photo: Photo) -> list[View]:
        """The views of a photo, those without anything to look at left out. Raises PhotoError."""
        views = self.preprocess.views(*photo.shape[:2])
        if self.area is None:
            return views
        size = photo.shape[0], photo.shape[1]
        self.area.require(size)
        return views_inside(views, self.area, size, self.preprocess.patch)

    def _inside(self, features: Features, photo: Photo, view: View) -> Features:
        """What of a view's features lies in the area."""
        return (
            features if self.area is None else only_inside(features, view, self.area, (photo.shape[0], photo.shape[1]))
        )

    def _with_turned(self, photo: Photo, encoded: PhotoFeatures) -> PhotoFeatures:
        """The same with the taps of the photo's turned copies, which are laid out as it is."""
        request = replace(self.request, local=None, windows=(), inputs=False, turns=1, mirrored=False)
        encoder = Encoder(self.backbone, self.preprocess, request, batch_size=self.batch_size)
        photo = photo if self.area is None else self.area.painted(photo)
        copies = encoder.encode(turned_copies(photo, self.request.turns, self.request.mirrored), reference=True)
        views = [_turned(view, [copy.features[n] for copy in copies]) for n, view in enumerate(encoded.features)]
        return replace(encoded, features=views, seconds=encoded.seconds + sum(copy.seconds for copy in copies))

    def encode_view(self, photo: Photo, view: View) -> Features:
        """Features of one view of an (H, W, 3) uint8 RGB photo, a batch of 1; nothing is cached."""
        return self._encoded([(photo, view)])

    def encode_pixels(self, pixels: Photo) -> Features:
        """Features, a batch of 1, of (h, w, 3) uint8 RGB at input size, a picture of no file; through the cache if there is one."""
        if self.cache is None:
            return self._of_pixels([pixels])
        described = [_FORMAT, self.backbone.fingerprint, self.request.decides(), list(pixels.shape)]
        text = json.dumps(described, sort_keys=True).encode()
        key = hashlib.sha256(text + np.ascontiguousarray(pixels).tobytes()).hexdigest()
        kept = self.cache.get(key)
        if kept is not None:
            return kept.to(self.backbone.device).features[0]
        size = pixels.shape[0], pixels.shape[1]
        whole = View((0.0, 0.0, float(size[1]), float(size[0])), size, (0, 0, *size))
        features = self._of_pixels([pixels])
        self.cache.put(key, PhotoFeatures(size, [whole], [features]))
        return features

    def _encoded(self, batch: Sequence[tuple[Photo, View]], reference: bool = False) -> Features:
        """One batch of views of one size, of (H, W, 3) uint8 RGB photos; a second tower sees them in its own size."""
        pixels = functools.partial(self.preprocess.pixels, reference=reference)
        features = self._of_pixels([pixels(photo, view) for photo, view in batch])
        tower = self.backbone.memory
        if self.request.memory is None or tower is None:
            return features
        own = [pixels(photo, tower.view(view, self.preprocess.size)) for photo, view in batch]
        return replace(features, memory=tower(self._normalised(own, tower), self.request.memory))

    @torch.no_grad()
    def _of_pixels(self, pixels: Sequence[Photo]) -> Features:
        """What CLIP's tower gives of views of one size, (h, w, 3) uint8 RGB each."""
        features: Features = self.backbone.vision(self._normalised(pixels, self.backbone), self.request)
        return features

    def _normalised(self, pixels: Sequence[Photo], tower: Backbone | MemoryTower) -> torch.Tensor:
        """(B, 3, h, w) float32, as that tower takes them."""
        arrays = [normalise(view, tower.mean, tower.std) for view in pixels]
        return torch.from_numpy(np.stack(arrays)).to(self.backbone.device)

    def read(self, item: object) -> Photo:
        """A photo in any form, see `data.photos.as_photo`, as (H, W, 3) uint8 RGB with the layout's range of values.

        Raises:
            PhotoError: it cannot be read.
        """
        return as_photo(item, self.preprocess.max_pixels, self.preprocess.input_range or None)

    def encode_files(
        self,
        paths: Iterable[PhotoRef],
        *,
        reference: bool = False,
        learned: bool = False,
        done: Callable[[PhotoRef], None] | None = None,
    ) -> list[PhotoFeatures]:
        """Reads and encodes photo files, or parts of them, one by one, through the cache if there is one; see :meth:`encode`.

        Raises:
            PhotoError: a file cannot be read; the caller decides whether that ends the run.
        """
        out = []
        for path in paths:
            out.append(self._cached(path, functools.partial(self.read, path), reference, learned))
            if done is not None:
                done(path)
        return out

    def encode_read(
        self, photo: Photo, path: PhotoRef | None = None, *, reference: bool = False, learned: bool = False
    ) -> PhotoFeatures:
        """The features of one photo that was read already (:meth:`read`), through the cache if it is of a file."""
        if path is None:
            return self.encode([photo], reference=reference, learned=learned)[0]
        return self._cached(path, lambda: photo, reference, learned)

    def _cached(self, path: PhotoRef, read: Callable[[], Photo], reference: bool, learned: bool) -> PhotoFeatures:
        if self.cache is None:
            return self.encode([read()], reference=reference, learned=learned, name=shown(path))[0]
        key = self.key(path, reference, learned)
        features = self.cache.get(key)
        if features is not None:
            return features.to(self.backbone.device)
        features = self.encode([read()], reference=reference, learned=learned, name=shown(path))[0]
        self.cache.put(key, features)
        return features

    def key(self, path: PhotoRef, reference: bool = False, learned: bool = False) -> str:
        """What the features of a file or a part of one depend on: backbone, layout, request, and its content."""
        swapped = (reference or learned) and self.preprocess.channels != "rgb"
        # Photos that are not learned from are never turned: whatever is asked of others, theirs are the same.
        request = self.request if learned else replace(self.request, turns=1, mirrored=False)
        described = [
            _FORMAT,
            self.backbone.fingerprint,
            asdict(self.preprocess),
            request.decides(),
            sha256_file(path),
            swapped,
            *([] if self.area is None else [self.area.digest]),
        ]
        return hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()


def _turned(view: Features, copies: Sequence[Features]) -> Features:
    """The features of a view with the taps of its turned copies, of both towers."""
    turned = {layer: torch.stack([copy.taps[layer] for copy in copies], dim=1) for layer in view.taps}
    memories = [copy.memory for copy in copies if copy.memory is not None]
    memory = None if view.memory is None else _turned(view.memory, memories)
    return replace(view, turned=turned, memory=memory)


class FeatureStore:
    """Features on disk, one safetensors file a photo, the longest unused removed above `max_bytes`.

    Where photos of one run do not fit, so that one is asked for again after it had to go, that is said, and nothing more is
    removed: the photos that are there then serve every pass. What 16 bits hold exactly takes 16 bits.

    Args:
        folder: created when needed. max_bytes: size limit of the folder.
    """

    def __init__(self, folder: Path, max_bytes: int = 4 * GIB) -> None:
        self.folder, self.max_bytes = folder, max_bytes
        self._bytes: int | None = None
        self._removed: set[str] = set()
        self._too_small = False

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"

    def get(self, key: str) -> PhotoFeatures | None:
        """The features of that key, or None. A damaged file counts as absent and is removed."""
        path = self._path(key)
        if not path.exists():
            if key in self._removed and not self._too_small:
                self._too_small = True
                notice(
                    f"{self.folder}: the features of this run are more than {self.max_bytes / GIB:g} GiB, so photos are encoded "
                    f"again in every pass; {argument('feature_disk')} keeps more"
                )
            return None
        try:
            photo = self._read(path)
        except (SafetensorError, KeyError, TypeError, ValueError, OSError):
            with suppress(OSError):
                path.unlink(missing_ok=True)
            return None
        with suppress(OSError):  # a cache of somebody else can be read and not touched
            os.utime(path)
        return photo

    @staticmethod
    def _read(path: Path) -> PhotoFeatures:
        tensors = load_file(path)
        text = bytes(tensors.pop("header").numpy()).decode()
        digest = bytes(tensors.pop("sha256").numpy()).decode()
        if digest != content_digest(text, tensors):
            raise ValueError("the content is not what was stored")
        header = parsed_json(text)
        features = []
        for number, grid in enumerate(header["grids"]):
            own = {k.split(".", 1)[1]: v for k, v in tensors.items() if k.startswith(f"{number}.")}
            # Of one tower a grid; of two a list of them.
            grids = [grid] if isinstance(grid[0], int) else grid
            features.append(Features.with_tensors(own, *((height, width) for height, width in grids)))
        views = [View(tuple(v["box"]), tuple(v["resized"]), tuple(v["crop"])) for v in header["views"]]
        return PhotoFeatures((header["size"][0], header["size"][1]), views, features).widened()

    def put(self, key: str, photo: PhotoFeatures) -> None:
        """Stores features; a full disk or a folder without permission leaves the run without a cache, not without a result."""
        tensors: dict[str, torch.Tensor] = {}
        for number, features in enumerate(photo.narrowed().features):
            tensors |= {f"{number}.{name}": tensor.contiguous() for name, tensor in features.tensors().items()}
        header = {
            "size": photo.size,
            "views": [asdict(view) for view in photo.views],
            "grids": [view.grid if view.memory is None else view.grids for view in photo.features],
        }
        text = json.dumps(header)
        tensors |= {"header": _as_tensor(text), "sha256": _as_tensor(content_digest(text, tensors))}
        data = save(tensors)
        if self._too_small and self._size() + len(data) > self.max_bytes:
            return
        known = self._size()  # before the file is there, which it would count
        try:
            write_atomic(self._path(key), data)
        except PromptadError:
            return
        self._bytes = known + len(data)
        if self._bytes > self.max_bytes:
            self._evict()

    def _size(self) -> int:
        if self._bytes is None:
            self._bytes = sum(size for _, size, _ in self._files())
        return self._bytes

    def _files(self) -> list[tuple[float, int, Path]]:
        files = []
        for path in self.folder.glob("*/*.safetensors"):
            try:
                stat = path.stat()
            except FileNotFoundError:  # removed by another run
                continue
            files.append((stat.st_mtime, stat.st_size, path))
        return sorted(files)

    def _evict(self) -> None:
        """Removes the longest unused files down to nine tenths of the limit, so that not every write evicts."""
        files = self._files()
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total <= 0.9 * self.max_bytes:
                break
            path.unlink(missing_ok=True)
            self._removed.add(path.stem)
            total -= size
        self._bytes = total


def _as_tensor(text: str) -> torch.Tensor:
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def default_store() -> FeatureStore:
    """The store in the user's cache folder, `PROMPTAD_HOME/features` or `~/.cache/promptad/features`, 4 GiB at most."""
    from promptad.clip.zoo import cache_folder

    return FeatureStore(cache_folder().parent / "features")
