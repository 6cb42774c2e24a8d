"""How many cores there are to compute on."""

from __future__ import annotations

import os
from pathlib import Path


def cores() -> int:
    """How many cores this process may keep busy: its affinity, and the share that its container has."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        return max(1, min(allowed, int(quota) // int(period)))
    except (OSError, ValueError):  # no cgroup, or no limit, which it calls "max"
        return allowed
