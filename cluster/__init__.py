"""Sweeps on Ray clusters. Public: `submit`, `jobs`, `follow`, `log`, `status`, `stop` (jobs)."""
