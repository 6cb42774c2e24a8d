"""The pixel pipeline: from a DICOM radiograph to stored values, to the model grid, and back.

Importing this package imports pydicom and numpy; `to_grid` imports MONAI when it is called.
"""
