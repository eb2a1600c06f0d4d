"""The MLflow view of a store. The Parquet files are the record; the view can be rebuilt from them.

Public: `Tracker` (tracker); `default_uri` (uris); `serve` (server).
"""
