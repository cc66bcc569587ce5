from __future__ import annotations

from pathlib import Path

import pytest

from promptad.data.datasets.visa import load
from promptad.data.records import Record
from promptad.errors import DataError

HEADER = "object,split,label,image,mask\n"
ROWS = (
    "candle,train,normal,candle/Data/Images/Normal/0000.JPG,\n"
    "candle,test,normal,candle/Data/Images/Normal/0001.JPG,\n"
    "candle,test,anomaly,candle/Data/Images/Anomaly/000.JPG,candle/Data/Masks/Anomaly/000.png\n"
    "pcb1,test,anomaly,pcb1/Data/Images/Anomaly/000.JPG,pcb1/Data/Masks/Anomaly/000.png\n"
)


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def make_visa(root: Path, table: str | bytes = HEADER + ROWS) -> Path:
    touch(root, "candle/Data/Images/Normal/0000.JPG", "candle/Data/Images/Normal/0001.JPG")
    for name in ("candle", "pcb1"):
        touch(root, f"{name}/Data/Images/Anomaly/000.JPG", f"{name}/Data/Masks/Anomaly/000.png")
    (root / "split_csv").mkdir()
    path = root / "split_csv" / "1cls.csv"
    path.write_bytes(table if isinstance(table, bytes) else table.encode())
    return root


def test_the_table(tmp_path: Path) -> None:
    root = make_visa(tmp_path)
    candle = root / "candle" / "Data"
    records = load(root)
    assert records[:3] == [
        Record(candle / "Images/Normal/0000.JPG", 0, None, "candle", "good", "train"),
        Record(candle / "Images/Normal/0001.JPG", 0, None, "candle", "good", "test"),
        Record(
            candle / "Images/Anomaly/000.JPG",
            1,
            candle / "Masks/Anomaly/000.png",
            "candle",
            "anomaly",
            "test",
        ),
    ]
    assert [record.class_name for record in records] == ["candle", "candle", "candle", "pcb1"]


def test_byte_order_mark_backslashes_and_line_ends(tmp_path: Path) -> None:
    root = make_visa(tmp_path)
    plain = load(root)
    changed = b"\xef\xbb\xbf" + (HEADER + ROWS).replace("\n", "\r\n").replace("/", "\\").encode()
    (root / "split_csv" / "1cls.csv").write_bytes(changed)
    assert load(root) == plain


def test_columns_may_stand_in_any_order_with_others_between(tmp_path: Path) -> None:
    table = "mask,x,image,label,split,object\n,9,candle/Data/Images/Normal/0000.JPG,normal,train,candle\n"
    assert [record.class_name for record in load(make_visa(tmp_path, table))] == ["candle"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("", "columns nothing; expected object, split, label, image, mask"),
        ("object,split,image\n", "columns object, split, image"),
        (HEADER, "has no rows"),
        (HEADER + "candle,val,normal,candle/Data/Images/Normal/0000.JPG,\n", "line 2: split 'val'"),
        (HEADER + "candle,test,bad,candle/Data/Images/Normal/0000.JPG,\n", "line 2: label 'bad'"),
        (HEADER + "candle,test\n", "line 2: label ''"),
        (HEADER + "candle,test,normal,,\n", "line 2: a path is empty"),
        (HEADER + "candle,test,normal,../../etc/passwd,\n", "line 2: path ../../etc/passwd leads out of"),
        (HEADER + "candle,test,normal,candle/../../x.JPG,\n", "leads out of"),
        (HEADER + "candle,test,normal,candle\\..\\..\\x.JPG,\n", "leads out of"),
        (HEADER + "candle,test,normal,/etc/passwd,\n", "absolute path /etc/passwd"),
        (HEADER + "candle,test,normal,C:\\photos\\x.JPG,\n", "absolute path C:"),
        (HEADER + "candle,test,normal,\\photos\\x.JPG,\n", "absolute path"),
        (
            HEADER + ROWS.replace("000.png", "../../../../../m.png"),
            "line 4: path candle/Data/Masks/Anomaly/../../../../../m.png leads out of",
        ),
        (b"object,split\xff\n", "is not UTF-8"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, table: str | bytes, says: str) -> None:
    with pytest.raises(DataError) as caught:
        load(make_visa(tmp_path, table))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_counted_and_the_first_named(tmp_path: Path) -> None:
    extra = "".join(f"candle,test,normal,candle/Data/Images/Normal/9{n:03}.JPG,\n" for n in range(5))
    root = make_visa(tmp_path, HEADER + ROWS + extra)
    with pytest.raises(DataError, match=r"5 of 11 listed files are missing \(.*9000\.JPG, .*9002\.JPG and 2 more\)"):
        load(root)
    (root / "split_csv" / "1cls.csv").write_text(HEADER + ROWS)
    (root / "pcb1/Data/Masks/Anomaly/000.png").unlink()
    with pytest.raises(DataError, match=r"1 of 6 listed files are missing \(.*pcb1/Data/Masks/Anomaly/000\.png\)"):
        load(root)


def test_a_linked_class_folder_is_inside(tmp_path: Path) -> None:
    root = make_visa(tmp_path / "visa")
    (root / "candle").rename(tmp_path / "elsewhere")
    (root / "candle").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert len(load(root)) == 4


def test_the_relayout(tmp_path: Path) -> None:
    touch(tmp_path, "1cls/candle/train/good/0.JPG", "1cls/candle/test/good/1.JPG", "1cls/candle/test/bad/2.JPG")
    touch(tmp_path, "1cls/candle/ground_truth/bad/2.png")
    folder = tmp_path / "1cls" / "candle"
    expected = [
        Record(folder / "train/good/0.JPG", 0, None, "candle", "good", "train"),
        Record(folder / "test/bad/2.JPG", 1, folder / "ground_truth/bad/2.png", "candle", "bad", "test"),
        Record(folder / "test/good/1.JPG", 0, None, "candle", "good", "test"),
    ]
    assert load(tmp_path) == expected
    assert load(tmp_path / "1cls") == expected


def test_neither_form(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"not VisA; expected split_csv/1cls\.csv or 1cls/<class>/"):
        load(tmp_path)
