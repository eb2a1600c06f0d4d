"""The sweeps of a store, by the names that commands are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import UserError, nearest

if TYPE_CHECKING:
    from ..store.manifest import Manifest

NO_SWEEP = "no sweep: none has begun here, or sweeps/ is gone, which the next run of a sweep mends"


def known_sweeps(out: str, sweep: str | None) -> list[Manifest]:
    """The manifests of a store's sweeps, or of the sweep of that name or file; UserError where there is none."""
    from lfombench.analysis.results import NoStore, sweeps

    sweep = name_in(sweep) if sweep else None
    try:
        known = sweeps(out, sweep or "*")
        if sweep and not known:
            names = [manifest.name for manifest in sweeps(out)]
            raise UserError(f"no sweep {sweep!r} in {out}; {nearest(sweep, names)}")
    except NoStore as error:
        raise UserError(str(error)) from error
    return known


def name_in(sweep: str) -> str:
    """The name of a sweep: that of a YAML file as the file says, of a Python file as it is when it runs."""
    if not sweep.endswith((".yaml", ".yml", ".py")):
        return sweep
    from ..spec.loader import load

    return load(sweep).name
