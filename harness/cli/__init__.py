"""The command line: commands by what they need, and what the terminal shows.

Public: `main`, `cli` (main). A command imports what is heavy inside itself, so that `lfombench --help` stays quick.
"""
