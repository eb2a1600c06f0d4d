"""The MLflow view of a store: reconciled with the Parquet files, which are the record, in any state, at any time.

Public: `sync` (sync); `verify` (verify); `Follower` (follow); `open_view`, `identity` (opened); `where` (uris);
`served` (server).
"""
