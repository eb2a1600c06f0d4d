"""Options that several commands share."""

from __future__ import annotations

import click

OUT = click.option(
    "--out", default="out", show_default=True, metavar="DIR", help="The store: a folder or s3://bucket/prefix."
)
SWEEP = click.option("--sweep", help="One sweep of the store. [default: all]")
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
ADDRESS = click.option(
    "--address", required=True, metavar="URL", help="The cluster's dashboard, such as http://head:8265."
)
