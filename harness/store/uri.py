"""The URI of a store, in its parts."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl


class URI(NamedTuple):
    """A URI of a store, in its parts: `scheme://user:password@authority/path?options`. The path is as it
    reads: a space, a percent sign or a hash in it is one, as for the tools of AWS.
    """

    scheme: str
    user: str | None
    password: str | None
    authority: str
    path: str
    options: str

    @classmethod
    def of(cls, text: str) -> URI:
        """The parts of a URI."""
        scheme, _, rest = text.partition("://")
        rest, _, options = rest.partition("?")
        authority, _, path = rest.partition("/")
        login, at, authority = authority.rpartition("@")
        user, _, password = login.partition(":")
        return cls(scheme, user if at else None, password or None, authority, path, options)

    @property
    def query(self) -> dict[str, str]:
        """The options by name, decoded."""
        return dict(parse_qsl(self.options, keep_blank_values=True))

    @property
    def shown(self) -> str:
        """The whole without credentials and options."""
        return f"{self.scheme}://{self.authority}/{self.path}".rstrip("/")
