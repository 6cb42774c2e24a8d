"""DICOM objects that certdicom writes. Nothing here imports torch."""
