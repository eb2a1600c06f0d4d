"""Ray in this process: started on this machine, or a cluster's."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile

from ..errors import UserError
from ..signals import guarded
from . import forked, forkserver
from .address import reachable
from .ray_start import NoRay, start

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # otherwise every worker without a GPU warns
    "RAY_worker_niceness": "0",  # Ray's 15 starves workers beside whatever else runs here
}


class Attached:
    """This process as a driver of Ray, until it is closed."""

    def __init__(self, address: str | None, cpus: int) -> None:
        """Start Ray on this machine with so many CPUs, or join the cluster at `address`. Raises NoRay where it cannot
        start here, and UserError where the cluster cannot be joined.
        """
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)
        try:
            import ray
        except ImportError as error:  # as for a Python that Ray does not support yet
            raise NoRay(f"Ray cannot be imported: {error}") from error
        self.ray, self.closed = ray, False
        if address is not None:
            reachable(address)
        # Ray puts the driver's folder first on its workers' path, where a user's torch.py would shadow torch: start Ray
        # from an empty folder.
        self.folder, self.empty = os.getcwd(), tempfile.TemporaryDirectory(prefix="lfombench-")
        self.own = ""  # what Ray keeps its files in, where it started here
        self.at_end = contextlib.ExitStack()
        try:
            with guarded(), contextlib.chdir(self.empty.name):
                if address is None:
                    forks = self.at_end.enter_context(contextlib.closing(forkserver.OfThisRun()))
                    self.own = start(cpus, forks.name)
                else:
                    ray.init(
                        address=address,
                        runtime_env=forked.runtime_env(),
                        log_to_driver=False,
                        logging_level=logging.ERROR,
                    )
        except Exception as error:  # Exception itself among them
            self.at_end.close()
            self.empty.cleanup()
            if address is None:
                raise
            raise UserError(f"--address {address}: cannot join the Ray cluster there: {error}") from error

    def close(self) -> None:
        """Leave the cluster, or stop Ray on this machine."""
        if not self.closed:
            self.closed = True
            self.ray.shutdown()
            self.at_end.close()
            self.empty.cleanup()
            if self.own:
                shutil.rmtree(self.own, ignore_errors=True)
