"""How the numbers of each method are measured where they are printed: data, bound to method and preset.

They decide numbers as much as the method does, and are none of its settings: a detector that judges photos has no test set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from promptad.annotations import Positive, check_fields
from promptad.methods.settings import check_keys

EvalSize = Positive | Literal["photo"]
MaskRule = Literal["nearest", "nearest_1024", "bilinear"]
Pixels = Literal["photo", "inspected"]


@dataclass(frozen=True)
class Conventions:
    """How one method is measured. Raises ConfigError where a value is not what its annotation allows."""

    # Side in pixels of the square that maps and masks are brought to, whatever the photo's shape; "photo" takes each
    # photo's own size.
    eval_size: EvalSize = 400
    # How masks are brought there: the pixel nearest to each new one's centre; the same over 1024 x 1024 and from the pixels'
    # corners, as OpenCV does it twice in PromptAD's released code; or Pillow's bilinear and then half, as in AnomalyCLIP's and
    # FAPrompt's.
    masks: MaskRule = "nearest"
    # Which pixels count: all of the photo, those that no view looked at with the smallest value of the map; or, of a centre
    # crop, those inside alone, the mask cropped as the photo is.
    pixels: Pixels = "photo"
    # The last epoch, or beside it the one with the best AUROC on the test set (F-7), for methods that are fitted in epochs.
    selection: Literal["last", "oracle_test"] = "last"
    # Listing that the draw of good photos shuffles: sorted names, or the directory's own order (F-8).
    shot_order: Literal["sorted", "directory"] = "sorted"

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def words(self) -> str:
        """How maps and masks are compared, in words."""
        size = "each photo's own size" if self.eval_size == "photo" else f"{self.eval_size} x {self.eval_size}"
        rule = f", masks {MASK_WORDS[self.masks]}" if self.eval_size != "photo" else ""
        crop = ", only what the layout looks at (masks cropped too)" if self.pixels == "inspected" else ""
        return f"maps and masks at {size}{rule}{crop}"

    def changed(self, values: Mapping[str, Any]) -> Conventions:
        """These with other values for some. Raises ConfigError for unknown names and values."""
        return replace(self, **check_keys(Conventions, values, "the evaluation"))

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


MASK_WORDS: dict[str, str] = {
    "nearest": "by nearest neighbour",
    "nearest_1024": "by nearest neighbour over 1024 x 1024",
    "bilinear": "bilinear, then half",
}

# The released scripts of both: 518 x 518, Pillow's bilinear on the masks.
_SCRIPTS_518 = Conventions(eval_size=518, masks="bilinear")
_CENTRE_CROP = Conventions(pixels="inspected")
_PROMPTAD_RELEASED = Conventions(masks="nearest_1024", selection="oracle_test", shot_order="directory")

CONVENTIONS: dict[tuple[str, str], Conventions] = {
    ("promptad", "paper"): _CENTRE_CROP,
    ("promptad", "release"): _PROMPTAD_RELEASED,
    ("faprompt", "paper"): _SCRIPTS_518,
    ("faprompt", "release"): _SCRIPTS_518,
    ("anomalyclip", "paper"): _SCRIPTS_518,
    ("anomalyclip", "release"): _SCRIPTS_518,
    **{
        (method, preset): _SCRIPTS_518
        for method, presets in {
            "aprilgan": ("paper", "paper-visa", "release"),
            "uniadet": ("paper", "release", "u1", "u2"),
            "mrad": ("paper", "paper-ft", "release", "release-ft"),
            "coop": ("paper", "release"),
            "cocoop": ("paper", "release", "vv"),
            "tcp": ("paper", "release", "v1", "v2"),
        }.items()
        for preset in presets
    },
    **{
        (method, preset): conventions
        for method in ("coop-oneclass", "cocoop-oneclass", "maple")
        for preset, conventions in (("paper", _CENTRE_CROP), ("release", _PROMPTAD_RELEASED))
    },
    **{("anovl", preset): Conventions(eval_size=240) for preset in ("paper", "release", "visa", "no-adapter")},
    ("clip", "paper"): _CENTRE_CROP,
    ("patchcore", "paper"): _CENTRE_CROP,
    ("patchcore", "release"): _CENTRE_CROP,
    ("padim", "paper"): _CENTRE_CROP,
    ("padim", "release"): _CENTRE_CROP,
    ("spade", "paper"): _CENTRE_CROP,
    ("spade", "release"): _CENTRE_CROP,
    ("fastrecon", "paper"): _CENTRE_CROP,
    ("fastrecon", "release"): _CENTRE_CROP,
    ("simplenet", "paper"): _CENTRE_CROP,
    ("simplenet", "release"): _CENTRE_CROP,
}
"""(method, preset) -> its conventions, where they are not the plain ones: 400 x 400, nearest neighbour, whole photos, the
last epoch, sorted names."""


def conventions_of(method: str, preset: str) -> Conventions:
    """The conventions of a method's preset."""
    return CONVENTIONS.get((method, preset), Conventions())
