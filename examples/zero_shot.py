"""Judge photos without a single good one, with your own words. Run: python examples/zero_shot.py"""

from pathlib import Path

import promptad
from promptad import Detector

PHOTOS = Path(promptad.__file__).parent / "demo_photos" / "cookies" / "test"
broken = sorted((PHOTOS / "broken").iterdir())[:3]
whole = sorted((PHOTOS / "good").iterdir())[:3]

# "promptad-zs" was trained once, on other products, and comes with the package; so do "faprompt", "anomalyclip", "rwda".
detector = Detector("promptad-zs", object="cookie", defects=["broken", "a piece missing"])

# Nothing is known about good cookies, so there is no threshold: photos are ranked, and a person looks at the top.
results = sorted(detector.predict([*broken, *whole]), key=lambda result: result.score, reverse=True)
for rank, result in enumerate(results, 1):
    print(f"{rank}. {result.score:7.2f}  {result.verdict}  {result.path.parent.name}/{result.path.name}")

# Four good photos change that: for this method they set the threshold, and enter the score too. Four can prove that about
# one good photo in five will be called anomalous, and no lower rate.
detector.fit(PHOTOS.parent / "train" / "good", false_alarms=0.2)
for photo in (broken[0], whole[0]):
    result = detector.predict(photo)
    print(f"with four good photos: {photo.parent.name}/{photo.name} is {result.verdict}")
