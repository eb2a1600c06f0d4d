"""The MLflow view of a store. The Parquet files are the record; the view can be rebuilt from them.

Public: `Tracker`, `default_uri` (tracker); `serve` (server).
"""
