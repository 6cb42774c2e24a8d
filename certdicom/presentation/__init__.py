"""What people look at: the preview picture, the Slicer segmentation, the JSON report. Nothing here imports torch."""
