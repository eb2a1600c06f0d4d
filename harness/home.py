"""A home folder for who has none: Ray, MLflow and others ask for one, and fail where nothing says where it is."""

from __future__ import annotations

import atexit
import logging
import os
import pwd
import shutil
import tempfile

log = logging.getLogger("lfombench")


def settle() -> None:
    """Set HOME as the system's list of users has it; where it has none, as in a container that runs under a bare
    number, to a temporary folder.
    """
    try:
        os.environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        try:
            home = os.environ["HOME"] = tempfile.mkdtemp(prefix="lfombench-home-")
        except OSError:
            return  # whoever needs one says so
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        log.warning("no home folder is set for user %d: a temporary one takes its place", os.geteuid())
