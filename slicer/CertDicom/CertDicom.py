"""The module CertDicom of 3D Slicer: choose a film, have it certified, and see the segmentation, the radius map and the shares."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

import ctk
import qt
import slicer
from CertDicomLib import asking, certifying, results, scene
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)

NOTICE = "Stability under bounded perturbation, not correctness. Research use only, not a medical device."
_LOOK_MS = 200


class CertDicom(ScriptedLoadableModule):
    """What Slicer lists."""

    def __init__(self, parent) -> None:
        super().__init__(parent)
        parent.title = "certdicom"
        parent.categories = ["Segmentation"]
        parent.dependencies = []
        parent.contributors = ["The certdicom authors"]
        parent.helpText = f"Certified segmentation of chest films, with an Abstain segment, by the program certdicom. {NOTICE}"
        parent.acknowledgementText = "Laousy et al., Certification of Deep Learning Models for Medical Image Segmentation, MICCAI 2023."


class CertDicomWidget(ScriptedLoadableModuleWidget):
    """The panel: a film, where it is certified and how, and what came of it."""

    def setup(self) -> None:
        super().setup()
        self.logic = CertDicomLogic()
        self._film()
        self._places()
        self._results()
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(_LOOK_MS)
        self.timer.connect("timeout()", self.onTimer)
        self._busy(False)

    def cleanup(self) -> None:
        self.timer.stop()
        self.logic.cancel()

    def _film(self) -> None:
        form = self._section("Film")
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode", "vtkMRMLVectorVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = self.volume.renameEnabled = False
        self.volume.noneEnabled = True
        self.volume.setMRMLScene(slicer.mrmlScene)
        self.volume.setToolTip("A film that was loaded from DICOM")
        self.file = self._path("", "A DICOM file, used where no volume is chosen")
        form.addRow("Volume:", self.volume)
        form.addRow("or file:", self.file)

    def _places(self) -> None:
        self.places = qt.QTabWidget()
        here, node = qt.QWidget(), qt.QWidget()
        self.places.addTab(here, "On this machine")
        self.places.addTab(node, "Ask a node")
        self.layout.addWidget(self.places)

        form = qt.QFormLayout(here)
        self.program = self._path(self._kept("program") or self.logic.program(), "certdicom, in its installation .venv/bin/certdicom")
        self.sigma = qt.QDoubleSpinBox()
        self.sigma.decimals, self.sigma.minimum, self.sigma.maximum, self.sigma.singleStep, self.sigma.value = 3, 0.03, 1.0, 0.05, 0.25
        self.sigma.setToolTip("Noise on the model grid; the certified radius is sigma times 0.67")
        self.n = qt.QSpinBox()
        self.n.minimum, self.n.maximum, self.n.value = 67, 100000, 100
        self.n.setToolTip("Draws that test the decisions: more abstain less, and take longer")
        self.bundle = qt.QLineEdit(self._kept("bundle"))
        self.bundle.placeholderText = "cxr-gray-256"
        self.siteKey = self._path(self._kept("site_key"), "The file that makes a run repeatable; none: other draws every time")
        self.perStructure = qt.QCheckBox("an Abstain segment for each structure as well")
        self.acceptAny = qt.QCheckBox("certify also what is no frontal chest film")
        for label, widget in (
            ("Program:", self.program),
            ("Sigma:", self.sigma),
            ("Draws n:", self.n),
            ("Bundle:", self.bundle),
            ("Site key:", self.siteKey),
            ("", self.perStructure),
            ("", self.acceptAny),
        ):
            form.addRow(label, widget)

        form = qt.QFormLayout(node)
        self.host = qt.QLineEdit(self._kept("host") or "127.0.0.1")
        self.port = qt.QSpinBox()
        self.port.minimum, self.port.maximum, self.port.value = 1, 65535, int(self._kept("port") or 11112)
        self.aeTitle = qt.QLineEdit(self._kept("ae_title") or "CERTDICOM")
        self.callingAeTitle = qt.QLineEdit(self._kept("calling_ae_title") or "SLICER")
        self.archive = qt.QLineEdit(self._kept("archive") or "http://127.0.0.1:8042/dicom-web")
        self.archive.setToolTip("DICOMweb of the archive to which the node sends its results")
        for label, widget in (
            ("Node's address:", self.host),
            ("Port:", self.port),
            ("AE title:", self.aeTitle),
            ("Our AE title:", self.callingAeTitle),
            ("Archive's DICOMweb:", self.archive),
        ):
            form.addRow(label, widget)

    def _results(self) -> None:
        self.go, self.stop = qt.QPushButton("Certify"), qt.QPushButton("Cancel")
        self.go.connect("clicked(bool)", self.onGo)
        self.stop.connect("clicked(bool)", self.onStop)
        buttons = qt.QHBoxLayout()
        buttons.addWidget(self.go)
        buttons.addWidget(self.stop)
        self.layout.addLayout(buttons)
        self.bar = qt.QProgressBar()
        self.said = qt.QLabel()
        self.said.wordWrap = True
        form = self._section("Result")
        self.table = slicer.qMRMLTableView()
        self.table.setMRMLScene(slicer.mrmlScene)
        self.table.setMinimumHeight(160)
        self.claim = qt.QLabel(NOTICE)
        self.claim.wordWrap = True
        self.claim.textInteractionFlags = qt.Qt.TextSelectableByMouse
        for widget in (self.bar, self.said, self.table, self.claim):
            form.addRow(widget)

    def onGo(self, _checked: bool = False) -> None:
        """Begin."""
        with slicer.util.tryWithErrorDisplay("certdicom could not be started.", waitCursor=True):
            volume = self.volume.currentNode()
            film = self.logic.film_of(volume) if volume is not None else Path(self.file.currentPath)
            if self.places.currentIndex == 0:
                self._keep(program=self.program.currentPath, bundle=self.bundle.text, site_key=self.siteKey.currentPath)
                self.logic.certify(
                    film,
                    volume,
                    program=self.program.currentPath,
                    sigma=self.sigma.value,
                    n=self.n.value,
                    bundle=self.bundle.text,
                    per_structure=self.perStructure.checked,
                    accept_any=self.acceptAny.checked,
                    site_key=Path(self.siteKey.currentPath) if self.siteKey.currentPath else None,
                )
            else:
                node = asking.Node(
                    host=self.host.text.strip(),
                    port=self.port.value,
                    archive=self.archive.text.strip(),
                    ae_title=self.aeTitle.text.strip(),
                    calling_ae_title=self.callingAeTitle.text.strip(),
                    storescu=self.logic.storescu(),
                )
                self._keep(
                    host=node.host, port=node.port, archive=node.archive, ae_title=node.ae_title, calling_ae_title=node.calling_ae_title
                )
                self.logic.ask(node, film, volume)
            self.said.text = "Working"
            self._busy(True)

    def onStop(self, _checked: bool = False) -> None:
        """End what runs."""
        with slicer.util.tryWithErrorDisplay("certdicom could not be ended.", waitCursor=True):
            self.logic.cancel()

    def onTimer(self) -> None:
        """Look how far it is, and show the result when it is there."""
        progress, code = self.logic.progress, self.logic.poll()
        self.bar.maximum, self.bar.value = (progress[1], progress[0]) if progress else (0, 0)
        if code is None:
            return
        self._busy(False)
        if self.logic.cancelled:
            self.said.text = "Cancelled"
        elif code != 0:
            self.said.text = self.logic.problem
        else:
            self.said.text = "Done"
            with slicer.util.tryWithErrorDisplay("The result could not be loaded.", waitCursor=True):
                shown = self.logic.show()
                self.table.setMRMLTableNode(shown.table)
                self.claim.text = shown.claim
                slicer.util.setSliceViewerLayers(
                    background=shown.film, foreground=shown.radius_map, foregroundOpacity=0.0, fit=True, rotateToVolumePlane=True
                )
        self.logic.clear()

    def _busy(self, busy: bool) -> None:
        self.go.enabled, self.stop.enabled, self.bar.visible = not busy, busy, busy
        if busy:
            self.timer.start()
        else:
            self.timer.stop()

    def _section(self, title: str):
        box = ctk.ctkCollapsibleButton()
        box.text = title
        self.layout.addWidget(box)
        return qt.QFormLayout(box)

    def _path(self, path: str, hint: str):
        widget = ctk.ctkPathLineEdit()
        widget.filters = ctk.ctkPathLineEdit.Files
        widget.currentPath = path
        widget.setToolTip(hint)
        return widget

    def _kept(self, name: str) -> str:
        return str(slicer.app.userSettings().value(f"CertDicom/{name}") or "")

    def _keep(self, **values: object) -> None:
        for name, value in values.items():
            slicer.app.userSettings().setValue(f"CertDicom/{name}", value)


class Shown:
    """What was put into the scene; `radius_map` is None where there is none."""

    def __init__(self, film, segmentation, radius_map, table, claim: str) -> None:
        self.film, self.segmentation, self.radius_map, self.table, self.claim = film, segmentation, radius_map, table, claim


class CertDicomLogic(ScriptedLoadableModuleLogic):
    """One film at a time: it is certified here or by a node, and its results are loaded."""

    def __init__(self) -> None:
        super().__init__()
        self._work: certifying.Run | asking.Asking | None = None
        self._folder: Path | None = None
        self._film: Path | None = None
        self._volume = None

    def environment(self) -> dict[str, str]:
        """The environment for programs that are not Slicer's."""
        return certifying.clean_environment(slicer.util.startupEnvironment(), slicer_home=slicer.app.slicerHome)

    def program(self) -> str:
        """Where certdicom is installed, as far as PATH says it."""
        return certifying.find_program(self.environment())

    def storescu(self) -> str:
        """The storescu of dcmtk, which Slicer brings."""
        return shutil.which("storescu", path=str(Path(slicer.app.slicerHome) / "bin")) or shutil.which("storescu") or "storescu"

    def film_of(self, volume) -> Path:
        """The DICOM file of a volume. ValueError where it has none."""
        uids = (volume.GetAttribute("DICOM.instanceUIDs") or "").split()
        if len(uids) > 1:
            raise ValueError(f"{volume.GetName()} is made of {len(uids)} images; a film is one")
        storage = volume.GetStorageNode()
        path = slicer.dicomDatabase.fileForInstance(uids[0]) if uids else storage.GetFileName() if storage is not None else ""
        if not path:
            raise ValueError(f"{volume.GetName()} did not come from a DICOM file; choose a file instead")
        return Path(path)

    def certify(self, film: Path, volume=None, **options: object) -> None:
        """Start certdicom on a film; `options`: the fields of `certifying.Request`. ValueError for what cannot be."""
        self._begin(film, volume)
        try:
            words = certifying.command(certifying.Request(film=film, folder=self._folder, **options))
            self._work = certifying.Run(words, self.environment())
        except BaseException:
            self.clear()
            raise

    def ask(self, node: asking.Node, film: Path, volume=None) -> None:
        """Send a film to a node and wait for its results in the archive."""
        self._begin(film, volume)
        try:
            self._work = asking.Asking(node, film, self._folder, slicer.util.startupEnvironment())
        except BaseException:
            self.clear()
            raise

    def _begin(self, film: Path, volume) -> None:
        if self._work is not None:
            raise ValueError("a film is being certified; wait for it or cancel it")
        if not film.is_file():
            raise ValueError(f"there is no film {film}; choose a volume or a DICOM file")
        self._film, self._volume = film, volume
        self._folder = Path(tempfile.mkdtemp(prefix="certdicom-", dir=slicer.app.temporaryPath))

    @property
    def progress(self) -> tuple[int, int] | None:
        return self._work.progress if self._work is not None else None

    @property
    def cancelled(self) -> bool:
        return self._work is not None and self._work.cancelled

    @property
    def problem(self) -> str:
        return self._work.problem if self._work is not None else ""

    def poll(self) -> int | None:
        """0 when the results are there, another number after a problem; None while it works."""
        return self._work.poll() if self._work is not None else None

    def cancel(self) -> None:
        """End what runs."""
        if self._work is not None:
            self._work.cancel()

    def show(self) -> Shown:
        """Load the film, where it is not there yet, and its results."""
        volume = self._volume
        if volume is None:
            volume = slicer.util.loadVolume(str(self._film), {"singleFile": True, "show": False})
        segmentation = results.read_segmentation(self._folder / certifying.SEGMENTATION)
        report, map_file = self._folder / certifying.REPORT, self._folder / certifying.RADIUS_MAP
        shares, claim = results.shares_of_segmentation(segmentation), segmentation.claim
        if report.exists():
            found = certifying.read_report(report)
            shares, claim = results.shares_of_report(found), found["claim"]
        name = volume.GetName()
        segments = scene.add_segmentation(slicer.mrmlScene, segmentation, name=f"{name}: certified", film=volume)
        radius_map = None
        if map_file.exists():
            radius_map = scene.add_radius_map(
                slicer.mrmlScene, results.read_radius_map(map_file), name=f"{name}: certified radius", film=volume
            )
        table = scene.add_table(slicer.mrmlScene, shares, name=f"{name}: shares")
        return Shown(volume, segments, radius_map, table, claim)

    def clear(self) -> None:
        """Forget the film and remove the folder of its results."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._work = self._folder = self._film = self._volume = None


class CertDicomTest(ScriptedLoadableModuleTest):
    """The module's test inside Slicer: it needs the program certdicom, as the panel names it, and a film that Slicer has loaded."""

    def runTest(self) -> None:
        self.test_a_loaded_film_is_certified()

    def test_a_loaded_film_is_certified(self) -> None:
        logic = CertDicomLogic()
        volume = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLScalarVolumeNode")
        self.assertIsNotNone(volume, "load a chest film first")
        program = str(slicer.app.userSettings().value("CertDicom/program") or logic.program())
        logic.certify(logic.film_of(volume), volume, program=program, n=75, accept_any=True)
        while logic.poll() is None:
            slicer.app.processEvents()
            time.sleep(0.1)
        self.assertEqual(logic.poll(), 0, logic.problem)
        shown = logic.show()
        logic.clear()
        self.assertIn("Abstain", [segment.GetName() for segment in map(shown.segmentation.GetSegmentation().GetNthSegment, range(4))])
        self.assertGreater(shown.table.GetNumberOfRows(), 1)
        self.assertIsNotNone(shown.radius_map)
