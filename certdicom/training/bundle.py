"""Put trained weights, and their description into a bundle folder."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import nn

from certdicom.models.bundle import DESCRIPTION


def write_bundle(folder: Path, *, description: dict[str, Any], networks: dict[str, nn.Module]) -> None:
    """Write `folder` with float16 safetensors for each network, and bundle.json with their digests."""
    folder.mkdir(parents=True, exist_ok=True)
    digests = {}
    for role, network in networks.items():
        path = folder / f"{role}.safetensors"
        content = save({name: value.detach().half().contiguous() for name, value in network.state_dict().items()})
        path.write_bytes(content)
        digests[role] = hashlib.sha256(content).hexdigest()
    fields = {"format": 1, **description, "weights_sha256": digests}
    (folder / DESCRIPTION).write_text(json.dumps(fields, indent=2) + "\n")
