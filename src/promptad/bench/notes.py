"""What must be read together with a table: what was left out and why, and what it can be compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from promptad.bench.comparison import spread
from promptad.bench.saturated import SATURATED
from promptad.bench.summary import Cell, Line
from promptad.calibration.threshold import DEFAULT_RATE
from promptad.data.shots import shots_words
from promptad.inputs import argument
from promptad.methods.registry import find_method
from promptad.metrics.accumulator import IMAGE_METRICS, METRICS, PIXEL_METRICS

NAMES = {
    "image_auroc": "image AUROC",
    "image_ap": "image AP",
    "image_f1_max": "image F1-max",
    "pixel_auroc": "pixel AUROC",
    "pixel_ap": "pixel AP",
    "pixel_f1_max": "pixel F1-max",
    "aupro_30": "AUPRO@0.3",
    "aupro_05": "AUPRO@0.05",
    "aupro_200": "AUPRO-200",
    **SATURATED,
}
F1_NOTE = "F1-max: at an oracle threshold, chosen on the test labels"
AUPRO_200_NOTE = (
    "AUPRO-200: at 200 thresholds, as the papers' scripts compute it, to stand beside their numbers; it depends on the scale of "
    "the scores, AUPRO@0.3 and AUPRO@0.05 do not"
)
INTERVAL_NOTE = (
    "95 %: where the image AUROC lies when the test photos are drawn again, 1,000 times, within class and label; good photos and "
    "trained prompts stay (their part is the ±). The other image metrics can be drawn again from scores.csv; pixel "
    "metrics have no interval, because maps are not kept"
)


def threshold_note(lines: Sequence[Line]) -> list[str]:
    """What "false alarms" and "found" are, and where they cannot be there."""
    words = (
        "false alarms / found: shares of normal and of anomalous test photos above the threshold set from "
        f"the good photos alone, each compared with the others; it aims at {DEFAULT_RATE:.0%} false alarms"
    )
    if any(line.shots in (0, 1) for line in lines):
        words += " (needs 2 shots or more)"
    return [words]


def skipped_notes(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Metrics that do not exist, with the reason and the classes; photos that metrics leave out."""
    reasons: dict[tuple[tuple[str, ...], str], list[str]] = {}
    remarks: list[str] = []
    several = len({unit["method"] for unit in units}) > 1

    def owner(unit: Mapping[str, Any], words: str) -> str:
        """The class, and the method where it is the method's own doing."""
        return f"{unit['class']} ({unit['method']})" if several and "anomaly map" in words else str(unit["class"])

    for unit in units:
        for row in unit["rows"]:
            by_reason: dict[str, list[str]] = {}
            for metric, reason in row["skipped"].items():
                by_reason.setdefault(reason, []).append(metric)
            for reason, metrics in by_reason.items():
                classes = reasons.setdefault((tuple(metrics), reason), [])
                if owner(unit, reason) not in classes:
                    classes.append(owner(unit, reason))
            remarks += [f"{owner(unit, note)}: {note}" for note in row["notes"]]
    skipped = [
        f"{', '.join(classes)}: {_metric_words(metrics)} skipped: {reason}"
        for (metrics, reason), classes in reasons.items()
    ]
    return list(dict.fromkeys([*skipped, *remarks]))


def _metric_words(metrics: Sequence[str]) -> str:
    left, words = list(metrics), []
    for group, name in ((IMAGE_METRICS, "image metrics"), (PIXEL_METRICS, "pixel metrics")):
        if set(group) <= set(left):
            words.append(name)
            left = [metric for metric in left if metric not in group]
    return " and ".join([*words, *(NAMES[metric] for metric in left)])


def partial_notes(lines: Sequence[Line]) -> list[str]:
    """Means that are not over all classes of their row, or rows that lack classes that others have."""
    out: dict[str, None] = {}
    classes = list(dict.fromkeys(name for line in lines for name in line.classes))
    for line in lines:
        by_missing: dict[tuple[str, ...], list[str]] = {}
        for metric in METRICS:
            cell = line.cells[metric]
            missing = tuple(name for name in classes if cell is not None and name not in cell.classes)
            if missing:
                by_missing.setdefault(missing, []).append(metric)
        for missing, metrics in by_missing.items():
            out[
                f"{line.label}, {shots_words(line.shots)}: {_metric_words(metrics)}: mean over "
                f"{len(classes) - len(missing)} of {len(classes)} classes (without {', '.join(missing)})"
            ] = None
    return list(out)


def oracle_notes(lines: Sequence[Line]) -> list[str]:
    """How much the choice of the epoch on the test set gains over the last epoch of the same runs."""
    out = []
    for line in lines:
        if not line.oracle:
            continue
        same = (line.label, line.shots)
        last = next((o for o in lines if (o.label, o.shots) == same and not o.oracle), None)
        gaps = []
        for metric in ("image_auroc", "pixel_auroc"):
            best, plain = line.cells[metric], last.cells[metric] if last else None
            if best is not None and plain is not None:
                gaps.append(f"{NAMES[metric]} {100 * (best.mean - plain.mean):+.1f}")
        if gaps:
            row = f"{line.label}, {shots_words(line.shots)}"
            out.append(f"{row}: oracle minus last epoch of the same runs: {', '.join(gaps)}")
    return out


def unused_notes(lines: Sequence[Line]) -> list[str]:
    """Methods that have no row for the shots of others, because good photos do not change their scores."""
    if not any(line.shots for line in lines):
        return []
    names = dict.fromkeys(line.method for line in lines if find_method(line.method).good_photos == "unused")
    if not names:
        return []
    return [f"{', '.join(names)}: good photos do not change these scores, so there are rows of 0 shots only"]


def trained_notes(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """What trained prompts were trained on, and rows whose test photos were among that."""
    out: dict[str, None] = {}
    for unit in units:
        trained = unit["trained"]
        if trained is None:
            continue
        data = "; ".join(
            f"{source['name']} (which photos, is not known; {source['licence']})"
            if source.get("imported")
            else f"{source['name']} ({source['normal']} good, {source['anomalous']} anomalous; {source['licence']})"
            for source in trained["data"]
        )
        out[f"{unit['method']}: {trained['file']} was trained on {data or 'words alone'}"] = None
        if unit["seen_in_training"]:
            out[
                f"{unit['method']}, {unit['class']}: NOT zero-shot: {unit['seen_in_training']} of its photos were "
                f"among the training photos of {trained['file']}; no mean counts this class"
            ] = None
    return list(out)


def contaminated_notes(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Test photos that a unit learned from: which they are, and that they were left out."""
    out: dict[str, None] = {}
    for unit in units:
        for test, shot in unit["learned_from"]:
            row = f"{unit['method']} {unit['preset']}, {shots_words(unit['shots'])}, run {unit['run'] + 1}"
            same = "" if test == shot else f" (the same photo as {shot})"
            out[f"{row}: {test} was learned from{same}, so it is left out of the test"] = None
    return list(out)


def near_notes(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Test photos that are near copies of a learned one, which stay in the test; units of earlier versions name none."""
    rows: dict[tuple[str, str], dict[str, None]] = {}
    for unit in units:
        for test, shot in unit.get("near_copies", ()):
            row = f"{unit['method']} {unit['preset']}, {shots_words(unit['shots'])}, run {unit['run'] + 1}"
            rows.setdefault((test, shot), {})[row] = None
    return [
        f"{test} shows the same as {shot}, saved again, resized, mirrored or turned, which was learned from ({'; '.join(of)}): "
        "it stays in the test, and is judged too well; leave it out of the set"
        for (test, shot), of in rows.items()
    ]


def anomaly_notes(units: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which anomalies the test sets lost to methods that learn from some."""
    out: dict[str, None] = {}
    for unit in units:
        drawn = unit.get("anomalies")
        if drawn is None:
            continue
        kind = f", all of type {drawn['type']}" if drawn["type"] else ""
        out[
            f"{unit['class']}, run {unit['run'] + 1}: {len(drawn['removed'])} anomalous photos are not in the test of methods "
            f"that learn from labelled anomalies ({drawn['draw']} draw{kind}): {', '.join(drawn['removed'])}"
        ] = None
    return list(out)


def limit_note(limit: int) -> list[str]:
    """That this is a first look."""
    if not limit:
        return []
    return [
        f"first look ({argument('limit', str(limit))}): at most {limit} normal and {limit} anomalous test photos of each class; the numbers "
        "are of these alone and are not those of the whole set"
    ]


def percent(cell: Cell | None) -> str:
    """A cell in percent, "94.6 ± 1.7"; "–" where it does not exist."""
    if cell is None:
        return "–"
    return spread(100 * cell.mean, None if cell.std is None else 100 * cell.std)
