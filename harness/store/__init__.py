"""The Parquet ledger under `--out`: what is in it, how it is committed, who works on it. Knows no solver, no engine.

Public: `TABLES`, `arrow` (schema); `place` (filesystem); `latest` (snapshots); `dataset`, `read` (tables); `Store`
(store); `Outcome` (outcome); `Manifest` (manifest); `take` (lease); `compact`, `repair` (maintenance);
`contradictions` (merge).
"""
