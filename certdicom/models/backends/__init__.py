"""What runs a bundle's networks, behind the sampler's port (`certification.base_segmenter.BaseSegmenter`).

`import openvino` posts to a web analytics service and writes an identifier into the user's home, unless its telemetry package cannot be
imported: then it uses a stub of its own. Nothing of ours may reach out, so whoever imports a backend blocks that package first.
"""

from __future__ import annotations

import sys

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # as importlib documents it: the import fails
