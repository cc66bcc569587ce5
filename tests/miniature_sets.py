"""Public data sets in miniature: a few photos in the tree, with the names and the irregularities of the published archives.

Built from the description of the archives (the specification of data sets), not from the code that reads them. Each function
writes a set into a folder and gives the folder that a person would name.
"""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

_seed = itertools.count(1)


def photo(path: Path, size: tuple[int, int] = (24, 16), mode: str = "RGB", form: str | None = None) -> Path:
    """A photo unlike every other one; `size` is (width, height), `form` the format where the suffix lies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(next(_seed)).integers(30, 220, (size[1], size[0], 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        image = image.convert(mode[:-1])
        image.putalpha(255)
    image.convert(mode).save(path, form)
    return path


def mask(path: Path, box: tuple[int, int, int, int] | None, size: tuple[int, int] = (24, 16), value: int = 255) -> Path:
    """A grey mask of 0 and `value`; box (left, top, right, bottom), None for an empty one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0]), np.uint8)
    if box is not None:
        values[box[1] : box[3], box[0] : box[2]] = value
    Image.fromarray(values).save(path)
    return path


def litter(root: Path, *folders: str) -> None:
    """What systems leave in folders."""
    for folder in folders:
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in ("Thumbs.db", ".DS_Store", "._000.png"):
            (root / folder / name).write_bytes(b"litter")
        photo(root / folder / "@eaDir" / "000.png")


BOX = (4, 4, 10, 9)


def mvtec_class(root: Path, name: str, types: dict[str, int], *, suffix: str = ".png", train: int = 2) -> None:
    """A class in the MVTec layout: masks `000_mask.png` for every defect."""
    for number in range(train):
        photo(root / name / "train/good" / f"{number:03}{suffix}")
    photo(root / name / "test/good" / f"000{suffix}")
    for kind, count in types.items():
        for number in range(count):
            photo(root / name / "test" / kind / f"{number:03}{suffix}")
            mask(root / name / "ground_truth" / kind / f"{number:03}_mask.png", BOX)


def mvtec(root: Path) -> Path:
    """MVTec AD: two classes of fifteen, grey photos among them."""
    mvtec_class(root, "bottle", {"broken_large": 2, "contamination": 1})
    mvtec_class(root, "toothbrush", {"defective": 1})
    for number in range(2):
        photo(root / "screw/train/good" / f"{number:03}.png", mode="L")
    photo(root / "screw/test/good/000.png", mode="L")
    photo(root / "screw/test/thread_side/000.png", mode="L")
    mask(root / "screw/ground_truth/thread_side/000_mask.png", BOX)
    for name in ("bottle/license.txt", "readme.txt"):
        (root / name).write_text("CC BY-NC-SA 4.0")
    litter(root, "bottle/test/good")
    return root


def mpdd(root: Path) -> Path:
    """MPDD: all six classes, the published names of types."""
    for name, types in {
        "bracket_black": {"hole": 1, "scratches": 1},
        "bracket_brown": {"bend_and_parts_mismatch": 1, "parts_mismatch": 1},
        "bracket_white": {"defective_painting": 1, "scratches": 1},
        "connector": {"parts_mismatch": 1},
        "metal_plate": {"major_rust": 1, "scratches": 1, "total_rust": 1},
        "tubes": {"anomalous": 2},
    }.items():
        mvtec_class(root, name, types)
    return root


def btad(root: Path) -> Path:
    """BTAD: masks of 01 are PNG beside BMP photos, of 03 BMP; names without suffix, numbered anew in each folder."""
    root = root / "BTech_Dataset_transformed"
    for name, image, label in (("01", "bmp", "png"), ("02", "png", "png"), ("03", "bmp", "bmp")):
        photo(root / name / "train/ok" / f"0000.{image}")
        photo(root / name / "train/ok" / f"0001.{image}")
        photo(root / name / "test/ok" / f"0000.{image}")
        photo(root / name / "test/ko" / f"0000.{image}")
        mask(root / name / "ground_truth/ko" / f"0000.{label}", BOX)
    return root


def dtd_synthetic(root: Path) -> Path:
    """DTD-Synthetic: twelve classes, types good and bad."""
    for name in (
        *("Woven_001", "Woven_127", "Woven_104", "Stratified_154", "Blotchy_099", "Woven_068", "Woven_125"),
        *("Marbled_078", "Perforated_037", "Mesh_114", "Fibrous_183", "Matted_069"),
    ):
        mvtec_class(root, name, {"bad": 1}, train=1)
    return root


def visa(root: Path, classes: Mapping[str, int] = {"candle": 3, "pcb1": 4}, normals: int = 4) -> Path:
    """VisA as published: three tables, masks of class numbers, names of anomalies that repeat normal numbers.

    `classes`: name -> how many numbers its masks have; the last of the `normals` normal photos is a test photo in the split 1cls.
    """
    rows: dict[str, list[tuple[str, ...]]] = {"1cls": [], "2cls_fewshot": [], "2cls_highshot": []}
    for name, number in classes.items():
        for i in range(normals):
            photo(root / name / "Data/Images/Normal" / f"{i:04}.JPG", form="JPEG")
        for i in range(3):
            photo(root / name / "Data/Images/Anomaly" / f"{i:03}.JPG", form="JPEG")
            mask(root / name / "Data/Masks/Anomaly" / f"{i:03}.png", BOX, value=1 + i % number)
        (root / name / "image_anno.csv").write_text("image,label,mask\n")
        for split, good_train, bad_train in (("1cls", normals - 1, 0), ("2cls_fewshot", 1, 1), ("2cls_highshot", 2, 2)):
            for i in range(normals):
                where = "train" if i < good_train else "test"
                rows[split].append((name, where, "normal", f"{name}/Data/Images/Normal/{i:04}.JPG", ""))
            for i in range(3):
                where = "train" if i < bad_train else "test"
                paths = (f"{name}/Data/Images/Anomaly/{i:03}.JPG", f"{name}/Data/Masks/Anomaly/{i:03}.png")
                rows[split].append((name, where, "anomaly", *paths))
    (root / "split_csv").mkdir()
    for split, lines in rows.items():
        with (root / "split_csv" / f"{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(("object", "split", "label", "image", "mask"))
            writer.writerows(lines)
    return root


def visa_relaid(root: Path) -> Path:
    """VisA as the publisher's script lays it out: masks without suffix, binarised; the 2cls splits have masks by side."""
    for name in ("candle", "pcb1"):
        photo(root / "1cls" / name / "train/good/0000.JPG", form="JPEG")
        photo(root / "1cls" / name / "test/good/0001.JPG", form="JPEG")
        photo(root / "1cls" / name / "test/bad/000.JPG", form="JPEG")
        mask(root / "1cls" / name / "ground_truth/bad/000.png", BOX)
        side = root / "2cls_fewshot" / name
        for split, normal, bad in (("train", "0000", "000"), ("test", "0001", "001")):
            photo(side / split / "good" / f"{normal}.JPG", form="JPEG")
            photo(side / split / "bad" / f"{bad}.JPG", form="JPEG")
            mask(side / "ground_truth" / split / "bad" / f"{bad}.png", BOX)
    return root


def palette_mask(path: Path, size: tuple[int, int], box: tuple[int, int, int, int], colours: list[int]) -> None:
    """A palette BMP whose index 1 marks the box; `colours` are the greys of the indices."""
    values = np.zeros((size[1], size[0]), np.uint8)
    values[box[1] : box[3], box[0] : box[2]] = len(colours) - 1
    image = Image.frombytes("P", size, values.tobytes())
    image.putpalette([grey for colour in colours for grey in (colour,) * 3])
    image.save(path)


def kolektor(root: Path) -> Path:
    """KolektorSDD: grey JPEG of heights that three does not divide; palette labels for defects, one with an index 1 of grey 85."""
    for folder in range(1, 5):
        for part in range(3):
            if (folder, part) == (4, 2):
                continue  # as kos09/Part3 is absent in a copy that was seen
            size = (20, 31)
            place = root / f"kos{folder:02}"
            photo(place / f"Part{part}.jpg", size, "L")
            label = place / f"Part{part}_label.bmp"
            if (folder, part) == (1, 0):
                palette_mask(label, size, (3, 12, 9, 14), [0, 255])  # within the second strip, rows 10 to 19
            elif (folder, part) == (2, 1):
                palette_mask(label, size, (3, 18, 9, 23), [0, 85, 255])  # second and third strip
            else:
                mask(label, None, size)
    litter(root, "kos01")
    return root


def kolektor_packed(root: Path) -> Path:
    """The strips that AnomalyCLIP publishes, in a folder with a blank or an underscore."""
    place = root / "electrical commutators"
    for name in ("kos01_Part1_0", "kos01_Part1_1"):
        photo(place / "test/good" / f"{name}.png")
    photo(place / "train/good/kos02_Part0_2.png")
    photo(place / "test/defect/kos01_Part5_0.png")
    mask(place / "ground_truth/defect/kos01_Part5_0.png", BOX)
    return root


def kolektor2(root: Path) -> Path:
    """KolektorSDD2: a mask for every photo, and the two stray copies of the archive."""
    for split, first, defects in (("train", 10000, {1}), ("test", 20000, {0, 2})):
        for number in range(4):
            photo(root / split / f"{first + number}.png")
            mask(root / split / f"{first + number}_GT.png", BOX if number in defects else None)
    photo(root / "train/10301.png")
    mask(root / "train/10301_GT.png", None)
    for name in ("10301", "10301_GT"):
        (root / "train" / f"{name} (copy).png").write_bytes((root / "train" / f"{name}.png").read_bytes())
    (root / "split_246.pyb").write_bytes(b"\x80\x04a pickle")
    return root


def aitex(root: Path) -> Path:
    """AITEX, strips cut to 4 tiles: every irregularity of the published archive once.

    `0044_019_04` has two masks, `0100_025_08` none and a fabric without normal strips, `0106_010_03` an empty one, `0094_027_05` is
    narrower, and a mask has soft edges alone in one tile. Fabric 01 has a strip under a second name; a folder is nested in itself.
    """
    size = (1024, 256)
    defects = root / "Defect_images" / "Defect_images"
    masks = root / "Mask_images"

    def strip(name: str, *boxes: tuple[int, int, int, int], mode: str = "L", width: int = 1024) -> None:
        photo(defects / f"{name}.png", (width, 256), mode)
        for number, box in enumerate(boxes, 1):
            suffix = f"_mask{number}" if len(boxes) > 1 else "_mask"
            mask(masks / f"{name}{suffix}.png", box, (width, 256))

    strip("0001_002_00", (250, 10, 262, 20))  # two tiles
    strip("0044_019_04", (10, 10, 20, 20), (600, 10, 610, 20))
    strip("0100_025_08")
    strip("0094_027_05", (300, 10, 310, 20), width=980)  # three tiles, and 212 columns
    strip("0005_019_02", (700, 5, 720, 30), mode="LA")
    strip("0106_010_03")
    mask(masks / "0106_010_03_mask.png", None, size)
    soft = np.zeros((256, 1024), np.uint8)
    soft[40:60, 500:512], soft[40:60, 512:514] = 255, 60  # the third tile has nothing but the edge
    Image.fromarray(soft).save(masks / "0005_019_02_mask.png")
    for folder, name in (
        ("2311694-2040n7u", "0001_000_00"),
        ("2608691-202020u", "0018_000_01"),
        ("2608691-202020u", "0018_00_01"),
        ("2306894-210033u", "0003_000_02"),
        ("2311517-195063u", "0004_000_04"),
        ("2306881-210020u", "0005_000_05"),
    ):
        photo(root / "NODefect_images" / folder / f"{name}.png", size, "L")
    return root


def dagm(root: Path) -> Path:
    """DAGM: test numbers are the low ones; labels of defects alone; `Thumbs.db` inside; Class10 sorts behind Class2."""
    root = root / "DAGM_KaggleUpload"
    for name in ("Class1", "Class2", "Class10"):
        for side, first, defects in (("Test", 1, (2,)), ("Train", 576, (577, 578))):
            place = root / name / side
            lines = ["1"]
            for number in range(first, first + 4):
                photo(place / f"{number:04}.PNG", (32, 32), "L")
                if number in defects:
                    mask(place / "Label" / f"{number:04}_label.PNG", BOX, (32, 32))
                    lines.append(f"{number}\t1\t{number:04}.PNG\t0\t{number:04}_label.PNG")
                else:
                    lines.append(f"{number}\t0\t{number:04}.PNG\t0\t0\t")
            (place / "Label/Labels.txt").write_text("\n".join(lines) + "\n")
            litter(root, f"{name}/{side}", f"{name}/{side}/Label")
    return root


def elpv(root: Path) -> Path:
    """ELPV: a table without header, blanks between; all four probabilities in both types."""
    lines = []
    number = 0
    for probability, kind, count in (
        *(("0.0", "mono", 3), ("0.0", "poly", 5), ("0.3333333333333333", "mono", 1)),
        *(("0.6666666666666666", "poly", 2), ("1.0", "mono", 2), ("1.0", "poly", 1)),
    ):
        for _ in range(count):
            number += 1
            photo(root / "src/elpv_dataset/data/images" / f"cell{number:04}.png", mode="L")
            lines.append(f"images/cell{number:04}.png  {probability}   {kind}")
    (root / "src/elpv_dataset/data/labels.csv").write_text("\n".join(lines) + "\n")
    return root


def magnetic_tile(root: Path) -> Path:
    """Magnetic tiles: masks for all, empty ones for Free and for one of Uneven; many sizes."""
    for place, kind in enumerate(("Blowhole", "Break", "Crack", "Fray", "Uneven", "Free")):
        for number in range(2):
            size = (24 + place, 16 + number)
            name = f"exp{number}_num_{1000 + 10 * place + number}"
            photo(root / f"MT_{kind}/Imgs" / f"{name}.jpg", size, "L")
            empty = kind == "Free" or (kind == "Uneven" and number == 1)
            mask(root / f"MT_{kind}/Imgs" / f"{name}.png", None if empty else BOX, size)
    return root


def textile(root: Path) -> Path:
    """The package's folder of simulated photos."""
    for kind, count in (("nominal", 6), ("local", 2), ("global", 2)):
        for number in range(count):
            photo(root / "textile_images/simulated" / kind / f"{kind}_{number:04}.jpg")
    return root


def brainmri(root: Path) -> Path:
    """BrainMRI: four suffixes, modes RGB, L, RGBA, P; a PNG called jpg; a stem twice; the photos a second time beside."""
    for folder, names in (
        ("yes", ("Y1.jpg", "Y2.JPG", "Y92.jpeg", "Y92.png", "Y100.jpg")),
        ("no", ("1 no.jpeg", "no 98.jpg", "N17.JPG", "No12.png")),
    ):
        for place, name in enumerate(names):
            mode = ("RGB", "L", "RGBA", "P")[place % 4] if name.endswith(".png") else ("RGB", "L")[place % 2]
            form = "PNG" if name in ("Y100.jpg",) else "PNG" if name.endswith(".png") else "JPEG"
            photo(root / folder / name, (40 + place, 30), mode, form)
            copy = root / "brain_tumor_dataset" / folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((root / folder / name).read_bytes())
    return root


def br35h(root: Path) -> Path:
    """Br35H: y0.jpg, no0.jpg, normals that start with a capital, and folders that are no part of the test."""
    for number in range(3):
        photo(root / "yes" / f"y{number}.jpg")
        photo(root / "no" / (f"no{number}.jpg" if number else "No0.jpg"))
    photo(root / "pred/pred0.jpg")
    photo(root / "Br35H-Mask-RCNN/TRAIN/y1.jpg")
    return root


def headct(root: Path) -> Path:
    """HeadCT: a folder nested in itself, a blank after the comma of the header, RGBA among RGB."""
    for number in range(4):
        photo(root / "head_ct/head_ct" / f"{number:03}.png", (30 + number, 40), "RGBA" if number == 2 else "RGB")
    (root / "labels.csv").write_text("id, hemorrhage\n0,1\n1,1\n2,0\n3,0\n")
    return root


def lag(root: Path) -> Path:
    """LAG, part 1: attention maps beside the photos."""
    for kind, count in (("suspicious_glaucoma", 2), ("non_glaucoma", 5)):
        for number in range(count):
            for inner in ("image", "attention_map"):
                photo(root / "LAG_database_part_1" / kind / inner / f"{number:04}.jpg")
    return root


def clinicdb(root: Path) -> Path:
    """CVC-ClinicDB as published: TIFF, numbers without leading zeros, so that 10 sorts before 2."""
    for number in (1, 2, 10):
        photo(root / "Original" / f"{number}.tif")
        mask(root / "Ground Truth" / f"{number}.tif", (number, 2, number + 3, 8))
    return root


def colondb(root: Path) -> Path:
    """CVC-ColonDB from a polyp pack; one stray mask."""
    for number in (1, 2, 10):
        photo(root / "CVC-ColonDB/images" / f"{number}.png")
        mask(root / "CVC-ColonDB/masks" / f"{number}.png", (number, 2, number + 3, 8))
    mask(root / "CVC-ColonDB/masks/11.png", BOX)
    return root / "CVC-ColonDB"


def jpeg_mask(path: Path, box: tuple[int, int, int, int], size: tuple[int, int]) -> None:
    """A lossy mask in three channels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros((size[1], size[0], 3), np.uint8)
    values[box[1] : box[3], box[0] : box[2]] = 255
    Image.fromarray(values).save(path, quality=70)


def kvasir(root: Path) -> Path:
    """Kvasir-SEG: masks are RGB JPEG."""
    for name in ("cju0qkwl35piu0993l0dewei2", "cju0qoxqj9q6s0835b43399p4"):
        photo(root / "images" / f"{name}.jpg", (64, 48))
        jpeg_mask(root / "masks" / f"{name}.jpg", (13, 10, 37, 29), (64, 48))
    (root / "kavsir_bboxes.json").write_text("{}")
    return root


def endo(root: Path) -> Path:
    """EndoTect: names of photos and masks sort alike only by chance; one photo has no mask."""
    place = root / "EndoTect_2020_Segmentation_Test_Dataset"
    for name in ("c5a", "0f1", "b77"):
        photo(place / "images" / f"{name}.jpg")
        if name != "0f1":
            mask(place / "masks" / f"{name}.png", BOX)
    return root


def isic(root: Path) -> Path:
    """ISIC 2016: a folder that is nested in itself, masks with another suffix."""
    nested = root / "ISBI2016_ISIC_Part1_Test_Data/ISBI2016_ISIC_Part1_Test_Data"
    for number in (3, 12):
        photo(nested / f"ISIC_{number:07}.jpg")
        mask(root / "ISBI2016_ISIC_Part1_Test_GroundTruth" / f"ISIC_{number:07}_Segmentation.png", BOX)
    return root


def tn3k(root: Path) -> Path:
    """TN3K: JPEG masks, the same numbers in both splits."""
    for split, count in (("trainval", 3), ("test", 2)):
        for number in range(count):
            photo(root / "Thyroid Dataset/tn3k" / f"{split}-image" / f"{number:04}.jpg", (64, 48))
            jpeg_mask(root / "Thyroid Dataset/tn3k" / f"{split}-mask" / f"{number:04}.jpg", (9, 10, 41, 29), (64, 48))
    (root / "Thyroid Dataset/tn3k/tn3k-trainval-fold0.json").write_text('{"train": [0, 1], "val": [2]}')
    return root


def loco_class(
    root: Path,
    name: str,
    *,
    config: bool = True,
    digits: int = 3,
    kinds: tuple[str, str] = ("logical_anomalies", "structural_anomalies"),
) -> None:
    """A class of MVTec LOCO AD: a folder of masks for each photo, one file a defect, values from the config."""
    place = root / name
    for split, count in (("train", 2), ("validation", 1)):
        for number in range(count):
            photo(place / split / "good" / f"{number:03}.png")
    photo(place / "test/good/000.png")
    for kind, value in zip(kinds, (250, 3), strict=True):
        photo(place / "test" / kind / "000.png")
        mask(place / "ground_truth" / kind / "000" / f"{0:0{digits}}.png", (2, 2, 6, 6), value=value)
    photo(place / "test" / kinds[0] / "001.png")
    for number, box in enumerate(((1, 1, 5, 4), (10, 8, 14, 12))):
        mask(place / "ground_truth" / kinds[0] / "001" / f"{number:0{digits}}.png", box, value=250)
    if config:
        entries = [
            {
                "defect_name": "missing_bolt",
                "pixel_value": 250,
                "saturation_threshold": 10,
                "relative_saturation": False,
            },
            {"defect_name": "scratch", "pixel_value": 3, "saturation_threshold": 1.0, "relative_saturation": True},
        ]
        (place / "defects_config.json").write_text(json.dumps(entries))


def loco(root: Path) -> Path:
    """MVTec LOCO AD: two of its five classes."""
    for name in ("breakfast_box", "pushpins"):
        loco_class(root, name)
    (root / "readme.txt").write_text("MVTec LOCO AD")
    return root


def autovi(root: Path) -> Path:
    """AutoVI: the layout of MVTec LOCO AD, masks 0000.png, here without a config."""
    loco_class(root, "engine_wiring", config=False, digits=4, kinds=("fastening", "obstruction"))
    return root


AD2_OBJECTS = ("can", "fabric", "fruit_jelly", "rice", "sheet_metal", "vial", "wallplugs", "walnuts")


def ad2(root: Path, private: int = 2) -> Path:
    """MVTec AD 2: several lights of a scene, flat private folders; an object that is nested in itself."""
    for name in AD2_OBJECTS:
        place = root / name / (name if name == "can" else "")
        mode = "L" if name == "vial" else "RGB"
        for number in range(2):
            photo(place / "train/good" / f"{number:03}_regular.png", mode=mode)
        photo(place / "validation/good/000_regular.png", mode=mode)
        for light in ("regular", "overexposed", "shift_1"):
            photo(place / "test_public/good" / f"000_{light}.png", mode=mode)
            photo(place / "test_public/bad" / f"000_{light}.png", mode=mode)
            mask(place / "test_public/ground_truth/bad" / f"000_{light}_mask.png", BOX)
        for number in range(private):
            photo(place / "test_private" / f"{number:03}_regular.png", (24, 16), mode)
            photo(place / "test_private_mixed" / f"{number:03}_mixed.png", (24, 16), mode)
    return root


def vad(root: Path) -> Path:
    """VAD: defects in training, unseen kinds in the test."""
    for place, count in (
        *(("train/good", 3), ("train/bad", 2), ("test/good", 2), ("test/bad", 2)),
        ("test/bad_unseen_defects", 1),
    ):
        for number in range(count):
            photo(root / "vad" / place / f"{number:04}.png")
    return root


SEWER_CODES = "RB,OB,PF,DE,FS,IS,RO,IN,AF,BE,FO,GR,PH,PB,OS,OP,OK"


def sewerml(root: Path) -> Path:
    """Sewer-ML: archives in folders of their own, a photo that was not unpacked, training photos beside."""
    columns = ["Filename", "WaterLevel", "VA", *SEWER_CODES.split(","), "ND", "Defect"]
    rows = []
    for number, codes, water in ((7, "", "1"), (19, "RB", "0"), (23, "RB OK", "0"), (31, "", "0"), (44, "", "0")):
        name = f"{number:08}.png"
        values = {
            "Filename": name,
            "WaterLevel": "5",
            "VA": water,
            "ND": str(int(not codes)),
            "Defect": str(int(bool(codes))),
        }
        rows.append([values.get(column, str(int(column in codes.split()))) for column in columns])
        if number != 44:
            photo(root / ("valid00" if number < 20 else "valid01") / name)
    for split in ("Train", "Val"):
        with (root / f"SewerML_{split}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(rows if split == "Val" else [])
    (root / "SewerML_Test.csv").write_text("Filename\n00000001.png\n")
    photo(root / "train00/00000002.png")
    return root


def real_iad(root: Path) -> Path:
    """Real-IAD: two sizes, a defective sample with a view in which nothing is seen, lists nested once more."""
    for size in ("256", "1024"):
        lists: dict[str, list[dict[str, object]]] = {"train": [], "test": []}
        for split, sample, code in (("train", 1, "OK"), ("test", 2, "OK"), ("test", 3, "AK")):
            for view in range(1, 6):
                seen = code != "OK" and view != 4
                folder = "OK" if code == "OK" else f"NG/{code}"
                name = f"audiojack_{sample:04}_{code if code == 'OK' else f'NG_{code}'}_C{view}_2023082516{view:04}"
                place = root / f"realiad_{size}/audiojack" / folder / f"S{sample:04}"
                photo(place / f"{name}.jpg")
                if seen:
                    mask(place / f"{name}.png", BOX)
                path = f"{folder}/S{sample:04}/{name}"
                lists[split].append(
                    {
                        "category": "audiojack",
                        "anomaly_class": code if seen else "OK",
                        "image_path": f"{path}.jpg",
                        "mask_path": f"{path}.png" if seen else None,
                    }
                )
    meta = {"prefix": "audiojack/", "normal_class": "OK"}
    polluted = {"meta": meta, "train": [*lists["train"], *lists["test"][5:7]], "test": lists["test"][:5]}
    single = {
        split: [entry for entry in entries if "_C1_" in str(entry["image_path"])] for split, entries in lists.items()
    }
    for name, content in (
        ("realiad_jsons/realiad_jsons", {"meta": meta, **lists}),
        ("realiad_jsons/realiad_jsons_sv", {"meta": meta, **single}),
        ("realiad_jsons_fuiad_0.4", polluted),
    ):
        (root / name).mkdir(parents=True)
        (root / name / "audiojack.json").write_text(json.dumps(content))
    return root


SETS: dict[str, tuple[Callable[[Path], Path], str, str]] = {
    "mvtec": (mvtec, "mvtec", "mvtec"),
    "mpdd": (mpdd, "mvtec", "mpdd"),
    "btad": (btad, "mvtec", "btad"),
    "dtd_synthetic": (dtd_synthetic, "mvtec", "dtd_synthetic"),
    "visa": (visa, "visa", "visa"),
    "visa_relaid": (visa_relaid, "visa", "visa"),
    "kolektor": (kolektor, "kolektor", "sdd"),
    "kolektor_packed": (kolektor_packed, "kolektor-packed", "sdd"),
    "kolektor2": (kolektor2, "kolektor2", "sdd2"),
    "aitex": (aitex, "aitex", "aitex"),
    "dagm": (dagm, "dagm", "dagm"),
    "elpv": (elpv, "elpv", "elpv"),
    "magnetic_tile": (magnetic_tile, "magnetic-tile", "magnetic_tile"),
    "textile": (textile, "textile", "conformal_clip"),
    "brainmri": (brainmri, "brainmri", "brainmri"),
    "br35h": (br35h, "br35h", "br35h"),
    "headct": (headct, "headct", "headct"),
    "lag": (lag, "lag", "lag"),
    "clinicdb": (clinicdb, "clinicdb", "clinicdb"),
    "colondb": (colondb, "colondb", "colondb"),
    "kvasir": (kvasir, "kvasir", "kvasir"),
    "endo": (endo, "endo", "endo"),
    "isic": (isic, "isic", "isic"),
    "tn3k": (tn3k, "tn3k", "tn3k"),
    "loco": (loco, "loco", "loco"),
    "autovi": (autovi, "loco", "autovi"),
    "ad2": (ad2, "ad2", "ad2"),
    "vad": (vad, "vad", "vad"),
    "sewerml": (sewerml, "sewerml", "sewerml"),
    "real_iad": (real_iad, "real-iad", "real_iad"),
}
"""Name -> what writes it, the layout as which it is recognised, and the key of the public set."""
