"""Ray clusters: handing a sweep to one, following it, stopping it."""
