"""Small JSON files beside the tables: the code behind each fingerprint, and widths that were too much for a device.

code/FINGERPRINT.json   widths.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from .place import Place


def code_parts(place: Place, code: str) -> dict[str, str]:
    """What a fingerprint was made of: a digest by part. Empty where that is not known."""
    return _parts(place, code) or {}


def _parts(place: Place, code: str) -> dict[str, str] | None:
    """What a file says that a fingerprint was made of; None where it is damaged or not there."""
    try:
        parts = json.loads(place.read(f"code/{code}.json") or b"null")
    except (OSError, ValueError, RecursionError):
        return None
    is_sound = isinstance(parts, dict) and all(isinstance(digest, str) for digest in parts.values())
    return parts if is_sound else None


def keep_code(place: Place, codes: Mapping[str, Mapping[str, str]]) -> None:
    """Keep what fingerprints were made of, to say later which part has changed."""
    for code, parts in codes.items():
        if _parts(place, code) is None:
            place.put(f"code/{code}.json", json.dumps(parts, indent=1, sort_keys=True).encode())


def widths(place: Place, device: str) -> dict[str, int]:
    """The largest number of jobs in a pack that a device has memory for, by structure, where one ran out of it."""
    return _widths(place).get(device, {})


def keep_width(place: Place, device: str, structure: str, jobs: int) -> None:
    """Remember that a pack of so many jobs of a structure ran out of memory on a device: half of them may fit."""
    by_device = _widths(place)
    known = by_device.setdefault(device, {})
    known[structure] = max(1, min(jobs // 2, known.get(structure, jobs)))
    place.put("widths.json", json.dumps(by_device, indent=1, sort_keys=True).encode())


def _widths(place: Place) -> dict[str, dict[str, int]]:
    try:
        by_device = json.loads(place.read("widths.json") or b"null")
        return {device: {name: int(jobs) for name, jobs in known.items()} for device, known in by_device.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):  # learned again
        return {}
