"""Planes of embeddings by t-SNE (van der Maaten and Hinton, JMLR 9, 2008), computed by scikit-learn: prompts, photos, sentences, maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from promptad.data.files import one_line, shown
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError
from promptad.methods.baselines.dra import DRA
from promptad.methods.object_agnostic import ObjectAgnostic
from promptad.methods.promptad.method import PromptAD
from promptad.methods.promptad_zs.method import PromptADZeroShot
from promptad.methods.rwda.method import RWDA
from promptad.notices import notice
from promptad.parsing import parsed_json
from promptad.suite import plots
from promptad.suite.page import Figure
from promptad.suite.papers.places import caption_files
from promptad.suite.papers.refit import Fitted, fitted_detectors
from promptad.suite.run import SuiteResult

_PHOTOS = 100
"""Most photos of a figure, as in PromptAD's figure 6."""
_SENTENCES = 300
_FEWEST = 3
_CAPTIONS = {"normal": "normal", "damage": "anomalous"}
"""Word in a COCO caption -> its side, as RWDA's figure 5 has them."""
Groups = Mapping[str, Tensor]
"""What a group of points is -> its vectors (N, D)."""


def embedded(groups: Groups) -> dict[str, list[tuple[float, float]]]:
    """Points of the plane for every group: t-SNE of all vectors together, with a fixed seed.

    Raises:
        ConfigError: scikit-learn is not there.
    """
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ConfigError("t-SNE needs scikit-learn; pip install 'promptad[bench]'") from error
    rows = torch.cat([group.reshape(len(group), -1).float().cpu() for group in groups.values()]).numpy()
    perplexity = float(min(30.0, max(1.0, (len(rows) - 1) / 3)))
    places: NDArray[np.float32] = TSNE(perplexity=perplexity, init="random", random_state=0).fit_transform(rows)
    made, start = {}, 0
    for name, group in groups.items():
        made[name] = [(float(x), float(y)) for x, y in places[start : start + len(group)]]
        start += len(group)
    return made


def _figure(title: str, groups: Groups) -> Iterator[Figure]:
    filled = {name: group for name, group in groups.items() if len(group)}
    if sum(map(len, filled.values())) < _FEWEST:
        notice(f"{title}: not drawn: a plane of fewer than {_FEWEST} points shows nothing; score more photos")
    elif plots.available():
        yield Figure(title, svg=plots.scatter_svg(embedded(filled), title))


# -- of detectors ------------------------------------------------------------------------------------------------------


def detector_figures(drawing: str, result: SuiteResult, out: Path) -> Iterator[Figure]:
    """The planes of a drawing ("prompts", "photos", "prompt_maps") of every class and row that was measured; `out` is the benchmark's
    folder."""
    draw: Callable[[Fitted], Iterator[tuple[str, Groups]]] = {
        "prompts": _prompts,
        "photos": _photos,
        "prompt_maps": _prompt_maps,
    }[drawing]
    for fitted in fitted_detectors(result, out):
        for words, groups in draw(fitted):
            name = f"{fitted.of_set.plan.title}, {fitted.unit['class']}: {fitted.name}{words}"
            yield from _figure(name, groups)


def _prompts(fitted: Fitted) -> Iterator[tuple[str, Groups]]:
    """PromptAD's prompts with unit features of good test photos, of whole photos and of places."""
    method = fitted.detector.method
    assert isinstance(method, PromptAD)
    good = [fitted.features(record) for record in fitted.tests if record.label == 0][:_PHOTOS]
    views = [view for photo in good for view in photo.features]
    whole = torch.cat([view.image for view in views]) if views else torch.zeros(0, 1)
    places = torch.cat([view.patches[0] for view in views if view.patches is not None]) if views else torch.zeros(0, 1)
    chosen = torch.linspace(0, len(places) - 1, min(_PHOTOS, len(places))).long()
    for task, photos in (("image", whole), ("pixel", places[chosen])):
        named = {f"{kind} prompts": rows for kind, rows in method.prompt_features(task).items()}
        yield f", {task} prompts", {**named, "good photos": F.normalize(photos, dim=-1)}


def _photos(fitted: Fitted) -> Iterator[tuple[str, Groups]]:
    """What a network made of normal and anomalous test photos."""
    method = fitted.detector.method
    assert isinstance(method, DRA | PromptADZeroShot)
    sides: dict[str, list[Tensor]] = {"normal": [], "anomalous": []}
    for record in _spread(fitted):
        views = fitted.features(record).features
        rows = torch.cat([method.photo_features(view) for view in views]).mean(dim=0)
        sides["anomalous" if record.label else "normal"].append(rows)
    yield "", {side: torch.stack(rows) for side, rows in sides.items() if rows}


def _prompt_maps(fitted: Fitted) -> Iterator[tuple[str, Groups]]:
    """The map of every abnormal prompt on every test photo, apart for normal and anomalous photos."""
    method = fitted.detector.method
    assert isinstance(method, ObjectAgnostic)
    sides: dict[str, list[Tensor]] = {"normal photos": [], "anomalous photos": []}
    for record in _spread(fitted):
        maps = method.prompt_maps(fitted.features(record).features[0])[0].flatten(1)
        sides["anomalous photos" if record.label else "normal photos"].append(maps)
    row = fitted.unit["rows"][-1]["metrics"]
    numbers = [f"{100 * value:.1f}" for key in ("image_auroc", "pixel_auroc") if (value := row[key]) is not None]
    yield f" ({', '.join(numbers)})", {side: torch.cat(maps) for side, maps in sides.items() if maps}


def _spread(fitted: Fitted) -> list[Record]:
    """At most so many test photos, evenly spaced."""
    known = [record for record in fitted.tests if record.label is not None]
    step = max(1, -(-len(known) // _PHOTOS))
    return known[::step]


# -- of words ----------------------------------------------------------------------------------------------------------


def sentence_figures(drawing: str, method: RWDA, data: Sequence[Path]) -> Iterator[Figure]:
    """RWDA's figure 3 ("sentences": embeddings of random-word sentences) and 5 ("classifier": the layers of its network)."""
    sides: dict[str, Tensor] = {
        f"{side}, random words": rows for side, rows in method.sentence_embeddings(_SENTENCES).items()
    }
    if drawing == "sentences":
        yield from _figure("embeddings of random-word sentences", sides)
        return
    for side, texts in coco_captions(data).items():
        if texts:
            sides[f"{side}, COCO captions"] = method.backbone.encode_texts(texts)
    yield from _figure("CLIP's embeddings", sides)
    layers = {name: method.hidden(rows) for name, rows in sides.items()}
    for number in range(len(method.config.hidden)):
        yield from _figure(f"layer {number + 1} of the classifier", {name: own[number] for name, own in layers.items()})


def coco_captions(data: Sequence[Path]) -> dict[str, list[str]]:
    """Captions with the word "normal" or "damage" from captions_*.json in these folders or one and two below them; side -> texts."""
    captions: dict[str, list[str]] = {side: [] for side in _CAPTIONS.values()}
    for caption in itertools.chain.from_iterable(map(_captions, caption_files(data))):
        words = caption.lower().replace(".", " ").split()
        for word, side in _CAPTIONS.items():
            if word in words and len(captions[side]) < _SENTENCES:
                captions[side].append(caption)
    return captions


def _captions(path: Path) -> list[str]:
    """The texts of a COCO file of captions. Raises DataError where it is none."""
    try:
        return [str(entry["caption"]) for entry in parsed_json(path.read_text(encoding="utf-8"))["annotations"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{shown(path)}: is not COCO's file of captions ({one_line(error)}); expected annotations with a caption each"
        ) from error
