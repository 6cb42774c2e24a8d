"""What the module CertDicom is made of.

`certifying` runs certdicom, `asking` asks a node and an archive, `results` reads what they give: none of them imports Slicer, and
Python 3.9 suffices. `scene` puts results into Slicer's scene.
"""
