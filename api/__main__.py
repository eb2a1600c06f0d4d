"""`python -m lfombench` is the command `lfombench`."""

import os
import sys

# Python puts the current folder first: a torch.py there, or a clone in a folder `lfombench`, must not be found first.
if sys.path[0] in ("", os.getcwd()):
    del sys.path[0]
    if getattr(sys.modules.get("lfombench"), "__file__", None) is None:
        sys.modules.pop("lfombench", None)

from lfombench.harness.cli.main import main

if __name__ == "__main__":
    main()
