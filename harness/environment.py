"""Variables that a submitted job has taken along in a file: so they are in no list of processes, and in no page of the
cluster's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

FILE = "LFOMBENCH_ENVIRONMENT"  # the variable that names the file


def take() -> None:
    """Set the variables of the file, once; what this process starts has them from it."""
    path = Path(os.environ.pop(FILE))
    if path.is_file():  # not in a process that began elsewhere, which has them already
        os.environ.update(json.loads(path.read_text()))
