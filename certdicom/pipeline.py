"""One image from a file to a result: the only place that joins imaging, certification, models and outputs.

The command line, the node and Python all come through here.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Certificate
from certdicom.certification.crop import Crop
from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.noise import derive_seed
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import Progress, certify_grids
from certdicom.certification.window import WindowRule
from certdicom.errors import CertdicomError, ImageRefusedError, UnreadableError, UsageError
from certdicom.models.backends.base import Backend
from certdicom.models.backends.choice import choose_backend, stated_precision
from certdicom.models.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from certdicom.progress import moved
from certdicom.suitability import judge_picture, notes_for, require_suitable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from certdicom.certification.certificate import SeedKind
    from certdicom.certification.sampling import BaseSegmenter
    from certdicom.imaging.image import SourceImage
    from certdicom.outputs.result import Result, Stopwatch
    from certdicom.outputs.segments import AbstainSegments
    from certdicom.outputs.source import Geometry

    AnyImage: TypeAlias = SourceImage | Dataset | str | Path | bytes
    CropLike: TypeAlias = Crop | tuple[int, int, int, int] | None
    Window: TypeAlias = tuple[float, float] | str | None

DEFAULT_BATCH = 10


@dataclass(frozen=True, kw_only=True)
class Computation:
    """How to compute, as opposed to what.

    `backend`: auto, openvino or torch; `device`: auto, cpu, cuda or cuda:i; `precision`: auto, float32, bfloat16 or float16;
    `batch_size`: draws in memory at once, which changes nothing else; `site_key`: makes the draws repeatable by its owner and
    unpredictable to others; without it the system's entropy is used.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = DEFAULT_BATCH
    site_key: bytes | None = field(default=None, repr=False)


class Certifier:
    """A bundle at one noise level, ready on a device: load once, certify many images."""

    def __init__(
        self,
        bundle: Bundle | str | Path | None = None,
        parameters: SmoothingParameters | None = None,
        computation: Computation | None = None,
        *,
        sigma: float | None = None,
    ) -> None:
        """Check the request before any slow work; networks are loaded on first use. UsageError when it is impossible.

        `bundle`: one that is loaded, the name of a shipped one, or a folder (None: the default
        one); `sigma` alone stands for parameters with that noise level and the defaults.
        """
        if parameters is not None and sigma is not None:
            raise UsageError("sigma is given twice: give it in the parameters, or alone")
        self.bundle = bundle if isinstance(bundle, Bundle) else load_bundle(bundle or DEFAULT_BUNDLE)
        self.parameters = parameters or (SmoothingParameters() if sigma is None else SmoothingParameters(sigma=sigma))
        self.computation = computation or Computation()
        self.bundle.require_sigma(self.parameters.sigma)
        hypotheses = Hypotheses(len(self.bundle.structures), self.parameters.unions)
        hypotheses.require_certifiable(self.parameters, cells=self.bundle.cells)
        self._loading = Lock()
        self._loaded: tuple[Backend, BaseSegmenter] | None = None

    def __repr__(self) -> str:
        return f"Certifier({self.bundle.name!r}, sigma={self.parameters.sigma:g})"

    def load(self) -> tuple[Backend, BaseSegmenter]:
        """What runs the networks, imported and loaded on the first call."""
        with self._loading:
            if self._loaded is None:
                asked = self.computation
                backend = choose_backend([self.bundle], backend=asked.backend, device=asked.device, precision=asked.precision)
                self._loaded = backend, backend.base_segmenter(self.bundle, sigma=self.parameters.sigma)
            return self._loaded

    def certify(
        self,
        image: AnyImage,
        *,
        geometry: Geometry = "viewer",
        abstain: AbstainSegments = "union",
        accept_any: bool = False,
        window: Window = None,
        crop: CropLike = None,
        progress: Progress | bool | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> Result:
        """Certify one image: one that was read, a data set, or the path or the bytes of a DICOM file.

        `geometry`, `abstain`: of the objects that may be written of it, see `Result`; `accept_any` waives what header and picture say
        the bundle is not for, but for colours in a bundle that takes gray films; `window`: (lo, hi) in modality values, "displayed", or
        what the bundle says where nothing is said; `crop`: (top, left, rows, columns) of the stored pixels that are looked at;
        `progress`: True for a bar on standard error, or a function of (draws done, draws in all); `stopwatch`: started earlier.
        UnreadableError for a path that cannot be read, ImageRefusedError when the image cannot be certified, or the bundle is not for
        such an image.
        """
        from certdicom.outputs.result import Result, Stopwatch

        watch = stopwatch or Stopwatch()
        source = _read(image, accept_any=accept_any)
        with moved(progress) as bar:
            certificate = self._certificate(source, self._rule(window), _crop(crop), accept_any=accept_any, progress=bar, watch=watch)
        return Result(source, certificate, geometry=geometry, abstain=abstain, stopwatch=watch)

    def certify_many(
        self,
        images: Iterable[AnyImage],
        *,
        accept_any: bool = False,
        window: Window = None,
        crop: CropLike = None,
        progress: Progress | bool | None = None,
        refused: Callable[[AnyImage, CertdicomError], object] | None = None,
    ) -> Iterator[Result]:
        """Certify one image after the other, with the networks loaded once.

        An image that cannot be read or certified is given to `refused` with its error, and left out; without `refused` the error is
        raised.
        """
        for image in images:
            try:
                result = self.certify(image, accept_any=accept_any, window=window, crop=crop, progress=progress)
            except (ImageRefusedError, UnreadableError) as error:
                if refused is None:
                    raise
                refused(image, error)
            else:
                yield result

    def _rule(self, window: Window) -> WindowRule:
        if window is None:
            return self.bundle.window
        if isinstance(window, str):
            return WindowRule.read(window, self.bundle.window.moments)
        return WindowRule("given", (float(window[0]), float(window[1])), self.bundle.window.moments)

    def _certificate(
        self, image: SourceImage, rule: WindowRule, crop: Crop | None, *, accept_any: bool, progress: Progress | None, watch: Stopwatch
    ) -> Certificate:
        require_suitable(image, self.bundle, accept_any=accept_any)
        with watch.stage("networks"):
            backend, segmenter = self.load()
        with watch.stage("grid"):
            from certdicom.imaging.grid import to_grid

            grid = to_grid(image, self.bundle.shape, rule, crop)
        seed, seed_kind = self._seed(image)
        notes = [*grid.notes, *notes_for(image, self.bundle)]
        repeated = self.bundle.channels // image.channels
        copies = math.sqrt(repeated)  # a change of d on a gray film is one of d·√repeated on its copies
        largest = self.parameters.largest_radius

        def judge(selected: NDArray[np.bool_]) -> None:
            notes.extend(judge_picture(selected, grid.u[0], self.bundle, accept_any=accept_any))

        with watch.stage("draws"):
            ((result,),) = certify_grids(
                [np.concatenate([grid.u] * repeated)],
                [segmenter],
                [self.parameters],
                seeds=[seed],
                batch_size=self.computation.batch_size,
                after_selection=judge,
                progress=progress,
            )
        return Certificate(
            decisions=result.decisions,
            counts=result.counts,
            parameters=self.parameters,
            structures=self.bundle.structures,
            padding_declared=image.declares_padding,
            crop=crop,
            native_radius=grid.native_radius(self.parameters.radius / copies),
            native_scale=grid.native_radius(largest / copies) / largest,
            native_unit=grid.native_unit,
            window=grid.window,
            bundle_name=self.bundle.name,
            bundle_sha256=self.bundle.sha256,
            seed_kind=seed_kind,
            draw_identity=hashlib.sha256(seed).hexdigest(),
            backend=backend.name,
            device=str(backend.device),
            precision=stated_precision(backend, self.bundle),
            unions=result.unions,
            stopped_at=result.draws if result.draws < self.parameters.n else None,
            medium=image.medium,
            notes=tuple(notes),
            seconds=dict(watch.seconds),
        )

    def _seed(self, image: SourceImage) -> tuple[bytes, SeedKind]:
        """The seed of this image's draws. It depends on pixels, bundle and parameters, and on nothing by which anybody could draw again."""
        asked = {**self.parameters.as_dict(), "bundle": self.bundle.sha256}
        return derive_seed(self.computation.site_key, pixels_sha256=_digest_of_pixels(image.stored_values), parameters=asked)


def _crop(crop: CropLike) -> Crop | None:
    return crop if crop is None or isinstance(crop, Crop) else Crop(*crop)


def _digest_of_pixels(stored: NDArray[np.integer]) -> bytes:
    """SHA-256 over shape and values, whatever the type that holds them."""
    digest = hashlib.sha256(repr(stored.shape).encode())
    for row in stored:
        digest.update(row.astype("<i8").tobytes())
    return digest.digest()


def certify(
    image: AnyImage,
    bundle: Bundle | str | Path | None = None,
    parameters: SmoothingParameters | None = None,
    *,
    sigma: float | None = None,
    computation: Computation | None = None,
    geometry: Geometry = "viewer",
    abstain: AbstainSegments = "union",
    accept_any: bool = False,
    window: Window = None,
    crop: CropLike = None,
    progress: Progress | bool | None = None,
) -> Result:
    """Certify one image with a bundle, see `Certifier`; the networks of the last call are kept.

    UsageError for an impossible request, ImageRefusedError when image and bundle do not go together.
    """
    certifier = _kept(Certifier(bundle, parameters, computation, sigma=sigma))
    return certifier.certify(image, geometry=geometry, abstain=abstain, accept_any=accept_any, window=window, crop=crop, progress=progress)


_LAST: list[Certifier] = []
"""The certifier of the last call of `certify`, with its networks: notebooks call it film by film."""


def _kept(certifier: Certifier) -> Certifier:
    """The last certifier where it is the same request, or else this one, kept from now on."""

    def asked(one: Certifier) -> object:
        return one.bundle.sha256, one.bundle.denoising, one.parameters, one.computation

    if not _LAST or asked(_LAST[0]) != asked(certifier):
        _LAST[:] = [certifier]
    return _LAST[0]


def write_segmentation(
    result: Result | Certificate,
    image: SourceImage,
    path: str | Path,
    *,
    geometry: Geometry = "viewer",
    abstain: AbstainSegments = "union",
    force: bool = False,
) -> None:
    """Write the certified segmentation of `image` as a DICOM SEG file, atomically.

    OutputError when it cannot be written, or exists and not `force`.
    """
    from certdicom.outputs.result import Result

    certificate = result if isinstance(result, Certificate) else result.certificate
    Result(image, certificate, geometry=geometry, abstain=abstain).save(path, kind="seg", force=force)


def _read(image: AnyImage, *, accept_any: bool) -> SourceImage:
    from pydicom.dataset import Dataset

    from certdicom.imaging.image import SourceImage
    from certdicom.imaging.reading import read_image

    if isinstance(image, SourceImage):
        return image
    return read_image(_file_of(image) if isinstance(image, Dataset) else image, accept_any=accept_any)


def _file_of(dataset: Dataset) -> bytes:
    stream = BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote values, which may be private
            dataset.save_as(stream, enforce_file_format=True)
    except (AttributeError, ValueError, TypeError, KeyError, NotImplementedError) as error:
        raise UsageError(
            "the data set cannot be written as a DICOM file, which has to know its transfer syntax: "
            "set file_meta.TransferSyntaxUID, or give the file's path"
        ) from error
    return stream.getvalue()
