"""One image from a file to a result: the only place that joins imaging, certification, models and outputs.

The command line, the node and Python all come through here.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing, contextmanager
from copy import copy
from dataclasses import dataclass, field
from io import BytesIO
from itertools import count
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from certdicom.certification.certificate import Certificate
from certdicom.certification.crop import Crop
from certdicom.certification.hypotheses import Hypotheses
from certdicom.certification.noise import derive_seed
from certdicom.certification.parameters import SmoothingParameters
from certdicom.certification.sampling import GridResult, Progress, certify_grids
from certdicom.certification.window import WindowRule
from certdicom.errors import CertdicomError, ImageRefusedError, UnreadableError, UsageError
from certdicom.models.backends.base import Backend
from certdicom.models.backends.choice import choose_backend, stated_precision
from certdicom.models.bundle import DEFAULT_BUNDLE, Bundle, load_bundle
from certdicom.pool import Parent, usual_processes, work_in_processes
from certdicom.progress import FilmLine, FilmsProgress, NoLine, in_words, moved
from certdicom.suitability import judge_picture, notes_for, require_suitable

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from certdicom.certification.base_segmenter import BaseSegmenter
    from certdicom.certification.certificate import SeedKind
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

    `backend`: auto, openvino or torch; `device`: auto, cpu, cuda, cuda:i, or several GPUs that share the draws of each image, as
    cuda:0,cuda:1 or cuda:all; `precision`: auto, float32, bfloat16 or float16; `batch_size`: draws in memory at once on each device,
    which changes nothing else; `site_key`: makes the draws repeatable by its owner and unpredictable to others; without it the system's
    entropy is used.
    """

    backend: str = "auto"
    device: str = "auto"
    precision: str = "auto"
    batch_size: int = DEFAULT_BATCH
    site_key: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, eq=False)
class Drawing:
    """What the networks are asked about one image: `u` (channels, H, W) float64 in [0, 1], and the `seed` of its draws."""

    u: NDArray[np.float64]
    seed: bytes
    accept_any: bool


@dataclass(frozen=True, eq=False)
class Drawn:
    """What came of it: the decisions, what is unusual about them, and what computed them."""

    result: GridResult
    notes: tuple[str, ...]
    backend: str
    device: str
    precision: str


Draw: TypeAlias = "Callable[[Drawing, Stopwatch, Progress | None], Drawn]"
"""Makes the draws of one image, here or where the networks are."""


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
        self._draw_elsewhere: Draw | None = None

    def __getstate__(self) -> dict[str, Any]:
        """The request, for another process: networks stay where they are loaded."""
        return {**self.__dict__, "_loading": None, "_loaded": None, "_draw_elsewhere": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _loading=Lock())

    def drawing_at(self, parent: Parent) -> Certifier:
        """The same in a process of `parent`, whose `CertifierServer` makes the draws."""

        def draw(asked: Drawing, watch: Stopwatch, _progress: Progress | None) -> Drawn:
            with watch.stage("waiting"):
                parent.ask(asked)
            with watch.stage("draws"):
                drawn: Drawn = parent.answer()
            return drawn

        other = copy(self)
        other._draw_elsewhere = draw
        return other

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
        save: Callable[[AnyImage], Mapping[str, str | Path]] | None = None,
        force: bool = False,
        processes: int | None = None,
    ) -> Iterator[Result]:
        """Certify many images, with the networks loaded once, in their order.

        An image that cannot be read or certified is given to `refused` with its error, and left out; without `refused` the error is
        raised. `save` names the files to be written of an image before its result is given out, by kind (a name in
        `certdicom.outputs.OUTPUTS`: {"seg": path}), `force` replaces those that exist. `processes`: so many read the images and write the
        files while this one certifies; None for as many as keep it busy, 1 for this one alone. `progress`: True for bars, or a function of
        (draws done, draws in all) of an image. OutputError when a file cannot be written.
        """
        if processes is not None and processes < 1:
            raise UsageError(f"processes must be at least 1, not {processes}")
        processes = processes or usual_processes()
        work = _Work(self, {"accept_any": accept_any, "window": window, "crop": crop}, force=force)
        jobs = (_Job(image, {} if save is None else dict(save(image))) for image in images)
        with _shown(progress, films=len(images) if isinstance(images, Sized) else None) as (line, passed):
            if processes == 1:
                done: Generator[tuple[_Job, Result | Exception], None, None] = ((job, work.here(job, line(job))) for job in jobs)
            else:
                done = work_in_processes(jobs, work, CertifierServer(self), processes=processes, line=line)
            with closing(done):
                for job, answer in done:
                    passed()
                    if isinstance(answer, (ImageRefusedError, UnreadableError)) and refused is not None:
                        refused(job.image, answer)
                    elif isinstance(answer, Exception):
                        raise answer
                    else:
                        yield answer

    def draw(self, asked: Sequence[Drawing], progress: Progress | None = None) -> list[Drawn | ImageRefusedError]:
        """The draws of several images, in batches that they share; an error where a picture cannot be certified.

        A picture is judged by the decisions that are selected: one that is alone before the long count, several after it.
        """
        backend, segmenter = self.load()
        judged: list[tuple[str, ...]] = []

        def judge(one: Drawing, selected: NDArray[np.bool_]) -> tuple[str, ...]:
            return judge_picture(selected, one.u[0], self.bundle, accept_any=one.accept_any)

        try:
            results = certify_grids(
                [one.u for one in asked],
                [segmenter],
                [self.parameters],
                seeds=[one.seed for one in asked],
                batch_size=self.computation.batch_size * backend.devices,
                after_selection=(lambda selected: judged.append(judge(asked[0], selected))) if len(asked) == 1 else None,
                progress=progress,
            )
        except ImageRefusedError as error:
            return [error]
        drawn: list[Drawn | ImageRefusedError] = []
        for one, (result,) in zip(asked, results, strict=True):
            try:
                notes = judged.pop() if judged else judge(one, result.selected)
            except ImageRefusedError as error:
                drawn.append(error)
            else:
                drawn.append(Drawn(result, notes, backend.name, str(backend.device), stated_precision(backend, self.bundle)))
        return drawn

    def _draw(self, asked: Drawing, watch: Stopwatch, progress: Progress | None) -> Drawn:
        if self._draw_elsewhere is not None:
            return self._draw_elsewhere(asked, watch, progress)
        with watch.stage("networks"):
            self.load()
        with watch.stage("draws"):
            (drawn,) = self.draw([asked], progress)
        if isinstance(drawn, ImageRefusedError):
            raise drawn
        return drawn

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
        with watch.stage("grid"):
            from certdicom.imaging.grid import to_grid

            grid = to_grid(image, self.bundle.shape, rule, crop)
        seed, seed_kind = self._seed(image)
        repeated = self.bundle.channels // image.channels
        copies = math.sqrt(repeated)  # a change of d on a gray film is one of d·√repeated on its copies
        largest = self.parameters.largest_radius
        drawn = self._draw(Drawing(np.concatenate([grid.u] * repeated), seed, accept_any), watch, progress)
        result = drawn.result
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
            backend=drawn.backend,
            device=drawn.device,
            precision=drawn.precision,
            unions=result.unions,
            stopped_at=result.draws if result.draws < self.parameters.n else None,
            medium=image.medium,
            notes=(*grid.notes, *notes_for(image, self.bundle), *drawn.notes),
            seconds=dict(watch.seconds),
        )

    def _seed(self, image: SourceImage) -> tuple[bytes, SeedKind]:
        """The seed of this image's draws. It depends on pixels, bundle and parameters, and on nothing by which anybody could draw again."""
        asked = {**self.parameters.as_dict(), "bundle": self.bundle.sha256}
        return derive_seed(self.computation.site_key, pixels_sha256=_digest_of_pixels(image.stored_values), parameters=asked)


class CertifierServer:
    """`pool.Server`: what a certifier computes for the processes that read and write."""

    def __init__(self, certifier: Certifier) -> None:
        self._certifier = certifier

    def load(self) -> int:
        backend, _ = self._certifier.load()
        return backend.images_at_once

    def serve(self, requests: Sequence[Drawing], progress: Progress) -> list[Drawn | ImageRefusedError]:
        return self._certifier.draw(requests, progress)


@dataclass(frozen=True)
class _Job:
    """An image, and the files to be written of it, by kind."""

    image: AnyImage
    files: Mapping[str, str | Path]


@dataclass(frozen=True)
class _Work:
    """What is done to each of many images, in whichever process."""

    certifier: Certifier
    options: Mapping[str, Any]
    force: bool

    def __call__(self, job: _Job, parent: Parent) -> Result:
        return self._done(job, self.certifier.drawing_at(parent), parent)

    def here(self, job: _Job, line: FilmLine) -> Result | CertdicomError:
        """The result, or why there is none, in this process."""
        try:
            return self._done(job, self.certifier, line)
        except (ImageRefusedError, UnreadableError) as error:
            return error
        finally:
            line.end()

    def _done(self, job: _Job, certifier: Certifier, line: FilmLine) -> Result:
        from certdicom.outputs import output_named
        from certdicom.outputs.result import Stopwatch
        from certdicom.outputs.writing import write_outputs

        watch = Stopwatch(watching=lambda stage: line.phase(in_words(stage)))
        with watch.stage("read"):
            image = _read(job.image, accept_any=bool(self.options["accept_any"]))
        result = certifier.certify(image, progress=line.draws, stopwatch=watch, **self.options)
        if job.files:
            write_outputs(result, {output_named(kind): Path(path) for kind, path in job.files.items()}, force=self.force)
        return result


class _Line(NoLine):
    """Of who wants to hear of draws alone."""

    def __init__(self, moves: Progress) -> None:
        self._moves = moves

    def draws(self, done: int, total: int) -> None:
        self._moves(done, total)


@contextmanager
def _shown(progress: Progress | bool | None, *, films: int | None) -> Iterator[tuple[Callable[[_Job], FilmLine], Callable[[], object]]]:
    """What makes the line of each image, and what is told of each that is done."""
    if progress is True:
        numbers = count(1)
        with FilmsProgress(films=films, quiet=False) as display:
            yield lambda _job: display.film(f"image {next(numbers)}"), display.passed
    else:
        line = _Line(progress) if callable(progress) else NoLine()
        yield lambda _job: line, lambda: None


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
