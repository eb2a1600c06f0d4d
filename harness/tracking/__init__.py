"""The MLflow view of a store. Parquet is the record; the view can be made again from it.

Public: `Tracker`, `default_uri` (tracker); `serve` (server).
"""
