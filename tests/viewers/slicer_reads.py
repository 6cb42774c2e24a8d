"""Runs in an environment with slicer-core: load a film and a `.seg.nrrd` as 3D Slicer does, and draw one over the other.

python slicer_reads.py FILM SEGMENTATION PICTURE     prints one JSON object: what Slicer made of them
"""

from __future__ import annotations

import json
import sys

import numpy as np
import slicer
from vtkmodules.util.numpy_support import numpy_to_vtk, vtk_to_numpy
from vtkmodules.vtkCommonCore import VTK_UNSIGNED_CHAR, vtkStringArray
from vtkmodules.vtkCommonDataModel import vtkImageData
from vtkmodules.vtkCommonMath import vtkMatrix4x4
from vtkmodules.vtkIOImage import vtkPNGWriter


def main(film_path: str, segmentation_path: str, picture_path: str) -> None:
    scene = slicer.vtkMRMLScene()
    film, segmentation = slicer.vtkMRMLScalarVolumeNode(), slicer.vtkMRMLSegmentationNode()
    for node, storage, path in (
        (film, slicer.vtkMRMLVolumeArchetypeStorageNode(), film_path),
        (segmentation, slicer.vtkMRMLSegmentationStorageNode(), segmentation_path),
    ):
        scene.AddNode(node)
        scene.AddNode(storage)
        storage.SetFileName(path)
        if not storage.ReadData(node):
            raise SystemExit(f"Slicer does not read {path}")
    image = film.GetImageData()
    columns, rows, _ = image.GetDimensions()
    gray = vtk_to_numpy(image.GetPointData().GetScalars()).reshape(rows, columns).astype(float)
    gray = 255 * (gray - gray.min()) / max(1.0, np.ptp(gray))
    picture = np.repeat(gray[:, :, np.newaxis], 3, axis=2)
    ras_to_ijk = vtkMatrix4x4()
    film.GetRASToIJKMatrix(ras_to_ijk)
    segments = []
    for identifier, places in segments_in(segmentation):
        segment = segmentation.GetSegmentation().GetSegment(identifier)
        colour = np.asarray(segment.GetColor())
        film_places = np.rint(places @ matrix(ras_to_ijk).T)[:, :2].astype(int)
        inside = ((film_places >= 0) & (film_places < (columns, rows))).all(axis=1)
        x, y = film_places[inside].T
        picture[y, x] = 0.5 * picture[y, x] + 0.5 * 255 * colour
        segments.append(
            {"name": segment.GetName(), "rgb": [round(255 * part) for part in colour], "pixels": len(places), "on_film": int(inside.sum())}
        )
    save(picture, picture_path)
    print(json.dumps({"size": [rows, columns], "spacing": film.GetSpacing(), "segments": segments}))


def segments_in(node: slicer.vtkMRMLSegmentationNode):
    """Each segment's id and the places of its voxels in the patient's coordinates (RAS), (voxels, 4)."""
    names = vtkStringArray()
    node.GetSegmentation().GetSegmentIDs(names)
    for number in range(names.GetNumberOfValues()):
        identifier = names.GetValue(number)
        labelmap = slicer.vtkOrientedImageData()
        node.GetBinaryLabelmapRepresentation(identifier, labelmap)
        first_column, _, first_row, _, first_slice, _ = labelmap.GetExtent()
        columns, rows, slices = labelmap.GetDimensions()
        if not labelmap.GetNumberOfPoints():
            yield identifier, np.zeros((0, 4))
            continue
        voxels = vtk_to_numpy(labelmap.GetPointData().GetScalars()).reshape(slices, rows, columns)
        z, y, x = np.nonzero(voxels)
        to_world = vtkMatrix4x4()
        labelmap.GetImageToWorldMatrix(to_world)
        index = np.stack([x + first_column, y + first_row, z + first_slice, np.ones_like(x)], axis=1)
        yield identifier, index @ matrix(to_world).T


def matrix(source: vtkMatrix4x4) -> np.ndarray:
    return np.array([[source.GetElement(row, column) for column in range(4)] for row in range(4)])


def save(picture: np.ndarray, path: str) -> None:
    rows, columns, _ = picture.shape
    image = vtkImageData()
    image.SetDimensions(columns, rows, 1)
    flat = np.ascontiguousarray(picture[::-1].reshape(-1, 3).clip(0, 255).astype(np.uint8))  # VTK's rows start at the bottom
    image.GetPointData().SetScalars(numpy_to_vtk(flat, deep=True, array_type=VTK_UNSIGNED_CHAR))
    writer = vtkPNGWriter()
    writer.SetFileName(path)
    writer.SetInputData(image)
    writer.Write()


if __name__ == "__main__":
    main(*sys.argv[1:])
