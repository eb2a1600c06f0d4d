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
    """Where neither HOME nor the system's list of users says where home is, let it be a temporary folder, as in a
    container that runs under a bare number.
    """
    if os.environ.get("HOME"):
        return
    try:
        os.environ["HOME"] = pwd.getpwuid(os.geteuid()).pw_dir
    except KeyError:
        try:
            home = os.environ["HOME"] = tempfile.mkdtemp(prefix="lfombench-home-")
        except OSError:
            return  # whoever needs one says so
        atexit.register(shutil.rmtree, home, ignore_errors=True)
        log.warning("no home folder is set for user %d: a temporary one takes its place", os.geteuid())
