"""The request to judge photos as they arrive in a folder: `promptad watch`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from promptad.annotations import Positive, Range
from promptad.data.files import sha256_file, shown
from promptad.errors import ConfigError, DataError
from promptad.inputs import argument
from promptad.requests.asked import Request, Said, asked, require_file

if TYPE_CHECKING:
    from promptad.detector import Detector
    from promptad.report.rows import Row
    from promptad.run.delivery import Receiver
    from promptad.run.watch import Watched, WatchPlan

Seconds = Annotated[float, Range(0, 86_400)]
"""From none to a day."""


@dataclass(frozen=True)
class WatchRequest(Request):
    """A folder to which photos come, and what is done with each."""

    inbox: Path | None = asked("Folder that photos come to (searched to the bottom).", None, place="argument")
    model: Path | None = asked("A detector saved by `promptad fit`.", None)
    output: Path = asked("Folder for results, audit log and heat maps.", Path("out"), option="-o --output")
    sort: Literal["copy", "link", "none"] = asked(
        "Put each photo into NG, OK or failed below the output folder: as a copy, as a link (for cameras that use no name twice), or none.",
        "none",
    )
    webhook: str | None = asked(
        "Address of a web server that gets every event as JSON with POST, at least once. PROMPTAD_WEBHOOK_TOKEN in the environment "
        "becomes its bearer token.",
        None,
    )
    mqtt: str | None = asked(
        "Broker and topic that get every event, at least once: mqtt://host:1883/line/3, or mqtts://... Name and password: "
        "PROMPTAD_MQTT_USER, PROMPTAD_MQTT_PASSWORD in the environment.",
        None,
    )
    queue: Positive = asked(
        "Events that may wait for a receiver that is away; of more, the oldest are given up.", 100_000
    )
    once: bool = asked("Judge what is there and end.", False)
    every: Seconds = asked("Seconds between two looks into the folder.", 1.0)
    settle: Seconds = asked("Seconds that size and time of a file must stay the same before it counts as whole.", 1.0)
    patience: Seconds = asked(
        "Seconds that an unchanged file may be unreadable before it is said to have failed.", 30.0
    )
    heatmaps: Literal["jpg", "png", "none"] = asked("jpg, png or none.", "jpg")
    maps: Literal["npy", "png", "none"] = asked("Raw anomaly maps at photo size: npy, png (16 bit) or none.", "none")
    threshold: float | None = asked("Your own threshold, instead of the learned one.", None)
    false_alarms: Annotated[float, Range(0, 1, open_low=True, open_high=True)] | None = asked(
        "Share of good photos that may be called anomalous, instead of the one in the file.", None
    )
    backbone: str | None = asked("Where the detector's CLIP weights lie now. Default: where they were.", None)
    memory_backbone: str | None = asked("The same of its second image tower.", None)
    device: str = asked("cpu, cuda, cuda:1, mps.", "cpu")

    def check(self) -> None:
        """There must be a folder and a detector, and addresses that can be some."""
        from promptad.run.receivers import check_url

        if self.inbox is None:
            raise ConfigError(f"there is no folder to watch; name one ({argument('inbox')})")
        if self.model is None:
            raise ConfigError(f"a watch needs a detector saved by `promptad fit` ({argument('model')})")
        if self.threshold is not None:
            self.refuse(["false_alarms"], f"the threshold is given ({argument('threshold')}); leave one of the two out")
        if self.webhook is not None:
            check_url("webhook", self.webhook, ("https", "http"))
        if self.mqtt is not None:
            check_url("mqtt", self.mqtt, ("mqtt", "mqtts"))
        if self.webhook is None and self.mqtt is None:
            self.refuse(
                ["queue"],
                f"no events are sent; give a receiver ({argument('webhook')}, {argument('mqtt')}), or leave it out",
            )

    def run(self, *, judged: Callable[[Row], None] | None = None, said: Said | None = None) -> tuple[Detector, Watched]:
        """Watches until it is stopped, or until all photos are judged (`once`).

        Args:
            judged: called with the row of each photo when it is on disk. said: called with a line about what happens meanwhile,
                from other threads too; without it such a line is a notice.

        Raises:
            PromptadError: whatever keeps it from beginning, on one line.
        """
        from promptad.data.lock import only_one, prepared_folder
        from promptad.notices import notice
        from promptad.run.watch import Watch

        assert self.inbox is not None and self.model is not None
        require_file(self.model, "saved detector")
        if not self.inbox.is_dir():
            raise DataError(f"{shown(self.inbox)}: is no folder; name the folder that photos come to")
        if self.inbox.resolve() == self.output.resolve():
            raise ConfigError(
                f"{argument('output', str(self.output))}: is the folder that photos come to; choose another"
            )
        with prepared_folder(self.output), only_one(self.output):
            detector = self._detector(self.model)
            watch = Watch(
                detector,
                sha256_file(self.model),
                self._plan(self.inbox),
                self._receivers(detector),
                said=said or notice,
                judged=judged,
            )
            return detector, watch.run()

    def _plan(self, inbox: Path) -> WatchPlan:
        from promptad.run.watch import WatchPlan

        return WatchPlan(
            inbox,
            self.output,
            self.heatmaps,
            self.maps,
            self.sort,
            self.every,
            self.settle,
            self.patience,
            self.once,
            self.queue,
        )

    def _detector(self, model: Path) -> Detector:
        from promptad.detector import Detector

        detector = Detector.load(
            model, backbone=self.backbone, memory_backbone=self.memory_backbone, device=self.device
        )
        if self.threshold is not None:
            detector.set_threshold(self.threshold)
        if self.false_alarms is not None:
            detector.set_false_alarms(self.false_alarms)
        return detector

    def _receivers(self, detector: Detector) -> list[Receiver]:
        from promptad.run.receivers import Mqtt, Webhook

        receivers: list[Receiver] = []
        if self.webhook is not None:
            receivers.append(Webhook(self.webhook))
        if self.mqtt is not None:
            receivers.append(Mqtt(self.mqtt, f"promptad/{detector.object.replace(' ', '_')}"))
        return receivers
