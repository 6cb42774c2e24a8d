"""Networks that somebody else wrote and saved: read without running anything of theirs but tensor arithmetic."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from certdicom.errors import BundleError


def load_foreign(description: Mapping[str, Any], files: Mapping[str, bytes]) -> nn.Module:
    """The network that `description["format"]` says, from the content of its `files` (in the order of `network_files`).

    BundleError when it cannot be read, or asks for more than tensor arithmetic.
    """
    form = description["format"]
    contents = list(files.values())
    if form == "torch.export":
        from certdicom.models.networks.foreign.exported import read_exported_program

        return read_exported_program(contents[0])
    if form == "monai-bundle":
        from certdicom.models.networks.foreign.monai_bundle import read_monai_network

        return read_monai_network(contents[0], contents[1], key=str(description.get("network", "network_def")))
    if form == "diffusers":
        from certdicom.models.networks.foreign.diffusers_folder import read_diffusers_unet

        return read_diffusers_unet(contents[0], contents[1])
    raise BundleError(f"unknown network format {form!r}")
