"""Learn once, save, load elsewhere, judge a folder with a bad file in it, and measure. Run: python examples/save_and_measure.py"""

import csv
import tempfile
from pathlib import Path

import promptad
from promptad import Detector, load
from promptad.data.photos import read_mask
from promptad.errors import PromptadError
from promptad.metrics.accumulator import Accumulator

PHOTOS = Path(promptad.__file__).parent / "demo_photos" / "cookies"

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder)

    # In the office: learn, and keep everything that was learned (words, threshold, memory) in one file.
    Detector(object="cookie").fit(PHOTOS / "train" / "good").save(out / "cookie.safetensors")

    # At the line: the file and the photos are all that is needed.
    detector = load(out / "cookie.safetensors")
    photos = [*sorted((PHOTOS / "test" / "good").iterdir())[:4], *sorted((PHOTOS / "test" / "broken").iterdir())[:4]]
    torn = out / "torn.jpg"  # a file that was not written to its end
    torn.write_bytes(photos[0].read_bytes()[:2000])

    # predict_each goes on after a photo that cannot be read: such a photo gives its error instead of a result.
    labelled = Accumulator()
    with (out / "results.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["photo", "verdict", "score"])
        photos.append(torn)
        for photo, result in zip(photos, detector.predict_each(photos), strict=True):
            if isinstance(result, PromptadError):
                print(f"not judged: {photo.name}")
                table.writerow([photo.name, "failed", ""])
                continue
            table.writerow([photo.name, result.verdict, result.score])
            # For the measures: 1 for defective, and the mask of the defect, True on its pixels.
            defective = photo.parent.name == "broken"
            mask_file = PHOTOS / "ground_truth" / "broken" / f"{photo.stem}_mask.png"
            mask = read_mask(mask_file, result.size) if defective else None
            labelled.add(int(defective), result.score, result.map, mask, name=photo.name)
    print(f"rows in the table: {len((out / 'results.csv').read_text().splitlines()) - 1}")

measured = labelled.compute()  # of eight photos: enough to see how it is done, far too few to say how good it is
print(f"image AUROC {measured.image_auroc:.3f}")
print(f"pixel AUROC {measured.pixel_auroc:.3f}")
print(f"AUPRO, limit 0.3 {measured.aupro_30:.3f}")
