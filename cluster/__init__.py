"""Sweeps on Ray clusters: submit one, follow its log, stop it."""
