"""Data sets: one adapter a layout, and the functions that pick it. Each adapter returns ``list[Record]``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from promptad.data.datasets import (
    ad2,
    aitex,
    coco,
    dagm,
    elpv,
    kolektor,
    loco,
    magnetic_tile,
    manifest,
    medical,
    meta_json,
    mvtec,
    outlined,
    paired,
    real_iad,
    segmented,
    sewerml,
    textile,
    vad,
    visa,
)
from promptad.data.datasets.facts import SetFacts, facts_of, whole_of
from promptad.data.datasets.layout import Layout, unpacked
from promptad.data.datasets.names import entries_of, squeezed
from promptad.data.duplicates import say_copies
from promptad.data.files import shown
from promptad.data.records import Record
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.notices import notice, only_looking

# In the order in which they are looked for: what only one set has comes first. A meta.json in a folder that is a known set is a
# derived file, so it comes late. `_OWN` are the layouts of one set each.
_OWN: tuple[Layout, ...] = (
    *(
        *loco.LAYOUTS,
        *ad2.LAYOUTS,
        *real_iad.LAYOUTS,
        *sewerml.LAYOUTS,
        *visa.LAYOUTS,
        *magnetic_tile.LAYOUTS,
        *dagm.LAYOUTS,
        *kolektor.LAYOUTS,
        *aitex.LAYOUTS,
        *elpv.LAYOUTS,
    ),
    *(*textile.LAYOUTS, *medical.LAYOUTS, *segmented.LAYOUTS, *vad.LAYOUTS),
)
_ORDER: tuple[Layout, ...] = (
    *_OWN,
    # Files that say so come before folders that only look so.
    *(*manifest.LAYOUTS, *coco.LAYOUTS, *outlined.LAYOUTS, *mvtec.LAYOUTS, *meta_json.LAYOUTS, *paired.LAYOUTS),
)
_BY_NAME = {layout.name: layout for layout in _ORDER}
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".7z", ".rar")
LAYOUTS = ("auto", *_BY_NAME)
"""Names that ``layout`` may have."""


@dataclass(frozen=True)
class DataSet:
    """A data set as it was read.

    Attributes:
        root: its folder, or its list. layout: the name of the layout. evidence: what shows that it lies so; "" where the layout
            was asked for. records: its photos. facts: the public set that it is or is a part of, None for any other.
    """

    root: Path
    layout: str
    evidence: str
    records: tuple[Record, ...]
    facts: SetFacts | None

    @property
    def differences(self) -> list[str]:
        """A line for every class and split whose photos differ in number from the full public set's."""
        return [] if self.facts is None else self.facts.differences(self.layout, self.records)


def load_dataset(path: str | os.PathLike[str], layout: str = "auto", normal: Sequence[str] = ()) -> list[Record]:
    """The records of a data set in any known layout; see :func:`open_dataset`."""
    return list(open_dataset(path, layout, normal).records)


def open_dataset(
    path: str | os.PathLike[str], layout: str = "auto", normal: Sequence[str] = (), *, compare: bool = True
) -> DataSet:
    """A data set in any known layout, with what is known of it.

    Args:
        path: the data set's folder, one category of it, or a list (``meta.json``).
        layout: one of :data:`LAYOUTS`; "auto" takes the first that the folder shows signs of.
        normal: names of folders whose photos are normal, besides the known ones
            (:data:`~promptad.data.datasets.names.NORMAL_FOLDERS`); for layouts with a folder for each type.
        compare: say where the numbers of photos differ from those of a whole public set; :attr:`DataSet.differences` has them.

    What is not used (photos, masks, folders), photos in both training and test split, copies, names in `normal` that no
    folder has, and numbers of photos that differ from those of a whole public set get a notice.

    Raises:
        ConfigError: an unknown layout name, or `normal` is one text.
        DataError: no layout fits (the line says what was looked for), or the adapter's own errors.
    """
    if isinstance(normal, str):
        raise ConfigError(f"normal is the text {normal!r}; expected a list of folder names; write ({normal!r},)")
    if layout not in LAYOUTS:
        raise ConfigError(f"layout {layout!r} is not known; expected one of {', '.join(LAYOUTS)}; choose one")
    folder = unpacked(Path(path))
    chosen, evidence = recognise(folder) if layout == "auto" else (_BY_NAME[layout], "")
    if not os.path.exists(folder):
        raise DataError(f"{shown(folder)}: there is no such data set; check the path")
    if evidence and chosen.name != "meta" and (folder / meta_json.FILE_NAME).is_file():
        notice(
            f"{shown(folder)}: read as it lies ({chosen.name}); its {meta_json.FILE_NAME} is not used: give that file to use it"
        )
    if evidence:
        _say_others(folder, chosen)
    records = _loaded(chosen, folder, tuple(normal), asked=layout != "auto")
    _say_unused_names(folder, records, normal)
    say_copies(records, folder)
    if compare:
        _say_counts(folder, chosen.name, records)
    return DataSet(folder, chosen.name, evidence, tuple(records), facts_of(chosen.name, records))


def _loaded(layout: Layout, folder: Path, normal: tuple[str, ...], *, asked: bool) -> list[Record]:
    try:
        records = layout.load(folder, normal)
        if not records:
            raise DataError(f"{shown(folder)}: holds no photo that {layout.expected} speaks of; fetch the set again")
        return records
    except DataError as error:
        if not asked:
            raise
        raise DataError(f"{error} (read as {argument('layout', layout.name)} asks)") from error


def _say_others(folder: Path, chosen: Layout) -> None:
    """A line where a folder also looks like another set, or like the same one packed otherwise."""
    for other in _OWN if chosen in _OWN else ():
        evidence = other.evidence(folder) if other.evidence is not None and other is not chosen else None
        if evidence is not None:
            notice(
                f"{shown(folder)}: read as {chosen.name}; {evidence} in it looks like {other.name} and is not read: "
                f"{argument('layout', other.name)} reads that"
            )


def identify(path: str | os.PathLike[str]) -> SetFacts | None:
    """The public set that lies in a folder, or None; nothing is said, and copies are not looked for.

    Raises:
        DataError: no layout fits, or the adapter's own errors.
    """
    folder = unpacked(Path(path))
    with only_looking():
        layout, _ = recognise(folder)
        return facts_of(layout.name, _loaded(layout, folder, (), asked=False))


def recognise(folder: Path) -> tuple[Layout, str]:
    """The layout of a folder or list, and what shows it.

    Raises:
        DataError: none fits; the line says what was looked for.
    """
    if not os.path.exists(folder):
        raise DataError(f"{shown(folder)}: there is no such data set; check the path")
    archives = _archives(folder)
    if folder.is_file():
        if archives:
            raise DataError(f"{shown(folder)}: is an archive; unpack it and name the folder")
        for layout in (*manifest.LAYOUTS, *coco.LAYOUTS):
            evidence = layout.evidence(folder) if layout.evidence is not None else None
            if evidence is not None:
                return layout, evidence
        if folder.suffix.lower() == ".json":
            return _BY_NAME["meta"], folder.name
    for layout in _ORDER:
        evidence = layout.evidence(folder) if layout.evidence is not None else None
        if evidence is not None:
            return layout, evidence
    if archives:
        some = ", ".join(shown(archive.name) for archive in archives[:3])
        raise DataError(
            f"{shown(folder)}: no known data set layout, but {len(archives)} {'archive' if len(archives) == 1 else 'archives'} ({some}); "
            "unpack and try again"
        )
    looked_for = "; ".join(layout.expected for layout in _ORDER if layout.evidence is not None)
    raise DataError(
        f"{shown(folder)}: no known data set layout; looked for {looked_for}; give the data set's own folder, or say how it lies "
        f"({argument('layout')})"
    )


def _archives(place: Path) -> list[Path]:
    """A file, or the files in a folder, whose names are those of archives."""
    files = [place] if place.is_file() else [entry for entry in entries_of(place) if entry.is_file()]
    return [file for file in files if file.name.lower().endswith(_ARCHIVES)]


def _say_counts(folder: Path, layout: str, records: Sequence[Record]) -> None:
    """A line where photos of a whole public set are missing or too many."""
    facts = whole_of(layout, records)
    differences = facts.differences(layout, records) if facts is not None else []
    if facts is not None and differences:
        more = f" and {len(differences) - 1} more" if len(differences) > 1 else ""
        notice(
            f"{shown(folder)}: has other numbers of photos than the whole {facts.title} ({differences[0]}{more}); numbers on it "
            "are not comparable with published ones"
        )


def _say_unused_names(folder: Path, records: Sequence[Record], normal: Sequence[str]) -> None:
    used = {squeezed(part) for record in records if record.label == 0 for part in record.path.parts[-4:-1]}
    for name in normal:
        if squeezed(name) not in used:
            notice(f"{shown(folder)}: no folder of normal photos is called {name!r}; check the name")
