"""`python -m lfombench` is the command `lfombench`."""

from lfombench.harness.cli.main import main

if __name__ == "__main__":
    main()
