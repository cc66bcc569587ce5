"""Learn a product from four good photos, judge others, and choose how strict to be. Run: python examples/few_shot.py"""

from pathlib import Path

import promptad
from promptad import Detector

# The cookies that come with the package; put your own folders here. They need no labels and no masks.
PHOTOS = Path(promptad.__file__).parent / "demo_photos" / "cookies"
good = sorted((PHOTOS / "train" / "good").iterdir())
to_judge = [PHOTOS / "test" / "good" / "test-normal-2.jpg", PHOTOS / "test" / "broken" / "anomaly-14.jpg"]

# The words for product and defects are part of what is learned: say what you would say to a colleague.
detector = Detector(object="cookie", defects=["broken [c]", "[c] with a piece missing"])
detector.fit(good)

# The threshold was set from the good photos alone. The note says how far it can be trusted.
print(f"threshold {detector.calibration.threshold:.3f}")
print(detector.calibration.note)

results = detector.predict(to_judge)
for result in results:
    row, column = result.hottest  # where the anomaly map is highest, in pixels of the photo
    print(f"{result.path.name}: {result.verdict}, score {result.score:.3f}, hottest at x={column} y={row}")
    print(f"  nearest words: {result.defects[0].words}")
    # result.map is (H, W) float32 at the photo's own size; result.mask is True where no good photo ever reached.
    print(f"  {result.mask.mean():.1%} of the photo lies above everything seen in good photos")

# Fewer or more false alarms, from the same four photos: nothing is learned or scored again.
for rate in (0.05, 0.3):
    detector.set_false_alarms(rate)
    again = [result.judged_by(detector.calibration) for result in results]
    above = sum(result.is_anomalous for result in again)
    print(f"aiming at {rate:.0%} false alarms: threshold {detector.calibration.threshold:.3f}, {above} of 2 above it")

# Or a value of your own, which decides from here on.
detector.set_threshold(max(result.score for result in results) + 1)
print(f"with a threshold above both scores: {detector.predict(to_judge[1], maps=False).verdict}")
