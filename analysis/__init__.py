"""Reads stores: boards, queries and reports. Imports neither torch nor ray."""
