"""What a person does and sees in OHIF 3.13, as functions of its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tests.viewers.browser import Browser

_BUTTON = "[...document.querySelectorAll('button')].find(element => element.innerText.trim() === arguments[0])"


def film_is_seen(viewport: np.ndarray) -> bool:
    """Whether a viewport's pixels are a film: neither dark nor one shade over its middle, where films are drawn."""
    rows, columns = viewport.shape[:2]
    middle = viewport[rows // 4 : -rows // 4, columns // 3 : -columns // 3].astype(float).mean(axis=2)
    return bool(middle.mean() > 30 and middle.std() > 10)


class Ohif:
    """OHIF at `site` in `browser`."""

    def __init__(self, browser: Browser, site: str) -> None:
        self.browser = browser
        self.site = site

    def open_study(self, study_instance_uid: str) -> None:
        """Open the study, without the tour of a first visit, and wait until its film is drawn."""
        self.browser.open(f"{self.site}/app-config.js")
        self.browser.run("localStorage.setItem('shownTours', JSON.stringify(['basicViewerTour']))")
        self.browser.complaints()
        self.browser.open(f"{self.site}/viewer?StudyInstanceUIDs={study_instance_uid}")
        self.browser.wait("return !!document.querySelector('canvas') && !!window.services", what="a canvas")
        self.browser.wait("return services.viewportGridService.getState().viewports.size > 0", what="a viewport")
        self._wait_for_film()

    def _wait_for_film(self) -> None:
        script = "const v = services.cornerstoneViewportService.getCornerstoneViewport(arguments[0]); return !!(v && v.getImageData())"
        self.browser.wait(script, self.viewport(), what="the film")

    def viewport(self) -> str:
        return str(self.browser.run("return services.viewportGridService.getActiveViewportId()"))

    def viewport_pixels(self, picture: Path) -> np.ndarray:
        """What stands in the active viewport, (rows, columns, 3) uint8; the screenshot of the whole window is kept at `picture`.

        A viewport that has become narrower, beside a panel that opened, shows what it was before, squeezed, until it is drawn anew.
        """
        self.browser.wait(
            """return [...document.querySelectorAll('canvas')].filter(canvas => canvas.clientWidth > 200)
                 .every(canvas => Math.abs(canvas.width / canvas.clientWidth - canvas.height / canvas.clientHeight) < 0.01);""",
            what="a viewport of its own shape",
        )
        left, top, width, height = self.browser.run(
            """const box = services.cornerstoneViewportService.getCornerstoneViewport(arguments[0]).element.getBoundingClientRect();
               return [box.x, box.y, box.width, box.height];""",
            self.viewport(),
        )
        shot = self.browser.picture(picture)
        return shot[round(top) : round(top + height), round(left) : round(left + width)]

    def open_series(self, description: str) -> None:
        """Double click on the series in the list."""
        place = self.browser.wait(
            """const row = [...document.querySelectorAll('[data-cy^=study-browser-thumbnail]')]
                 .find(element => element.innerText.includes(arguments[0]));
               if (!row) return null;
               row.scrollIntoView({block: 'center'});
               const box = row.getBoundingClientRect();
               return [box.x + box.width / 2, box.y + box.height / 2];""",
            description,
            what=f"the series {description}",
        )
        self.browser.press(*place, times=2)

    def answer(self, label: str, *, seconds: float = 240) -> None:
        """Press the button once it is there."""
        script = f"const button = {_BUTTON}; if (button) button.click(); return !!button"
        self.browser.wait(script, label, seconds=seconds, what=f"the button {label}")

    def asks(self, label: str) -> bool:
        """Whether there is a button to answer with."""
        return bool(self.browser.run(f"return !!({_BUTTON})", label))

    def load_segmentation(self, description: str, *, seconds: float = 240) -> None:
        """Open a SEG and say that it is wanted; TimeoutError when it is not read within `seconds`."""
        self.open_series(description)
        self.answer("Yes", seconds=seconds)
        self.browser.wait("return services.segmentationService.getSegmentations().length > 0", what="the segmentation")
        self.browser.run("document.querySelector('[data-cy=panelSegmentation-btn]').click()")
        self.browser.wait("return document.querySelectorAll('[data-cy=data-row-title]').length > 0", what="the list of segments")
        self._wait_for_film()

    def listed_segments(self) -> dict[str, str]:
        """Name and colour, as `rgb(r, g, b)`, of each row of the segments' list."""
        rows = self.browser.run(
            """return [...document.querySelectorAll('[data-cy=data-row]')].map(row => [
                 row.querySelector('[data-cy=data-row-title]').innerText,
                 row.querySelector('[data-cy=data-row-colorhex]').style.backgroundColor])"""
        )
        return {name: colour for name, colour in rows}  # noqa: C416 -- JSON pairs are lists

    def places(self, pixels: list[tuple[float, float]]) -> list[tuple[float, float]]:
        """Where in the window the film's pixels (column, row) are drawn, as the viewer itself places them."""
        found = self.browser.run(
            """const viewport = services.cornerstoneViewportService.getCornerstoneViewport(arguments[0]);
               const data = viewport.getImageData().imageData;
               const box = viewport.element.getBoundingClientRect();
               return arguments[1].map(([column, row]) => {
                 const [x, y] = viewport.worldToCanvas(data.indexToWorld([column, row, 0]));
                 return [box.x + x, box.y + y];
               });""",
            self.viewport(),
            pixels,
        )
        return [(x, y) for x, y in found]

    def colours(self, pixels: list[tuple[float, float]], *, picture: Path) -> list[np.ndarray]:
        """RGB of the screenshot at the film's pixels (column, row); the screenshot is kept at `picture`."""
        shot = self.browser.picture(picture)
        return [shot[round(y), round(x)].astype(int) for x, y in self.places(pixels)]

    def measurements(self) -> dict[str, list[str]]:
        """The texts of each group that is drawn, by its tracking identifier; OHIF writes the first five of them beside the film."""
        groups: list[Any] = self.browser.wait(
            """const report = services.displaySetService.getActiveDisplaySets().find(set => set.Modality === 'SR');
               if (!report || !report.isLoaded) return null;
               return report.measurements.filter(group => group.loaded)
                 .map(group => [group.TrackingIdentifier, group.labels.map(label => `${label.label}: ${label.value}`)]);""",
            what="the report",
        )
        return dict(groups)
