"""Runs in an environment with slicer-core: certify a film with the module's own logic, and say what is then in Slicer's scene.

python slicer_module.py MODULE PROGRAM BUNDLE FILM     prints one JSON object

Slicer's core has no Qt and no application: what the logic asks of the application stands in here, the scene is Slicer's own.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
import types
from pathlib import Path

import slicer
from vtkmodules.util.numpy_support import vtk_to_numpy
from vtkmodules.vtkCommonCore import reference
from vtkmodules.vtkCommonMath import vtkMatrix4x4


def main(module: str, program: str, bundle: str, film: str) -> None:
    sys.path.insert(0, module)
    prepare()
    from CertDicom import CertDicomLogic

    logic = CertDicomLogic()
    volume = load(film)
    volume.SetName("film")
    before = slicer.mrmlScene.GetNumberOfNodes()
    logic.certify(logic.film_of(volume), volume, program=program, bundle=bundle, n=300, sigma=0.05, accept_any=True)
    refused = ""
    try:
        logic.certify(Path(film))
    except ValueError as error:
        refused = str(error)
    while logic.poll() is None:
        time.sleep(0.1)
    if logic.poll() != 0:
        raise SystemExit(logic.problem)
    progress = logic.progress
    shown = logic.show()
    logic.clear()
    print(
        json.dumps(
            {
                "second": refused,
                "progress": progress,
                "new nodes": slicer.mrmlScene.GetNumberOfNodes() - before,
                "left": os.listdir(slicer.app.temporaryPath),  # noqa: PTH208  # names
                "claim": shown.claim,
                "film": place(volume),
                "segments": list(segments_of(shown.segmentation)),
                "map": {
                    "place": place(shown.radius_map),
                    "radii": values(shown.radius_map.GetImageData()),
                    "largest shown": shown.radius_map.GetDisplayNode().GetLevel() + shown.radius_map.GetDisplayNode().GetWindow() / 2,
                },
                "table": [
                    [shown.table.GetCellText(row, column) for column in range(shown.table.GetNumberOfColumns())]
                    for row in range(shown.table.GetNumberOfRows())
                ],
                "columns": [shown.table.GetColumnName(column) for column in range(shown.table.GetNumberOfColumns())],
            }
        )
    )


def prepare() -> None:
    """Qt, the application and the classes of scripted modules, as far as the logic names them."""
    slicer.mrmlScene = slicer.vtkMRMLScene()
    slicer.app = types.SimpleNamespace(slicerHome=sys.prefix, temporaryPath=tempfile.mkdtemp())
    slicer.util.startupEnvironment = lambda: dict(os.environ)
    scripted = types.ModuleType("slicer.ScriptedLoadableModule")
    for what in ("", "Logic", "Test", "Widget"):
        setattr(scripted, f"ScriptedLoadableModule{what}", type(f"ScriptedLoadableModule{what}", (), {}))
    sys.modules |= {"slicer.ScriptedLoadableModule": scripted, "qt": types.ModuleType("qt"), "ctk": types.ModuleType("ctk")}


def load(path: str) -> slicer.vtkMRMLScalarVolumeNode:
    """A film as Slicer's own reader loads it."""
    film = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    storage = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVolumeArchetypeStorageNode")
    storage.SetFileName(path)
    storage.SetSingleFile(1)
    if not storage.ReadData(film):
        raise SystemExit(f"Slicer does not read {path}")
    film.SetAndObserveStorageNodeID(storage.GetID())
    return film


def segments_of(node: slicer.vtkMRMLSegmentationNode):
    segmentation = node.GetSegmentation()
    for number in range(segmentation.GetNumberOfSegments()):
        identifier, segment = segmentation.GetNthSegmentID(number), segmentation.GetNthSegment(number)
        labelmap = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(identifier, labelmap)
        to_world = vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(to_world)
        tag = reference("")
        segment.GetTag("TerminologyEntry", tag)
        yield {
            "name": segment.GetName(),
            "rgb": [round(255 * part) for part in segment.GetColor()],
            "terminology": str(tag),
            "place": elements(to_world),
            "mask": values(labelmap),
        }


def place(volume: slicer.vtkMRMLVolumeNode) -> list[list[float]]:
    found = vtkMatrix4x4()
    volume.GetIJKToRASMatrix(found)
    return elements(found)


def elements(matrix: vtkMatrix4x4) -> list[list[float]]:
    return [[matrix.GetElement(row, column) for column in range(4)] for row in range(4)]


def values(image) -> list[list[float]]:
    columns, rows, _ = image.GetDimensions()
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns).tolist()


if __name__ == "__main__":
    main(*sys.argv[1:])
