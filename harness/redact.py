"""Passwords and keys in texts: where a URI has them, and the text without them."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

LOGIN = re.compile(r"(\w[\w+.-]*://[^\s/@:]*):[^\s@]*@")
NAMED = re.compile(r"(?i)((?:password|passwd|token|secret|secret_key|session_token|sig|account_key)=)[^&\s\"']+")


def redacted(text: str, *uris: str) -> str:
    """A text without the passwords of these URIs, and of any other in it."""
    for uri in uris:
        with_user = urlsplit(uri).netloc.rpartition("@")[0]
        password = with_user.partition(":")[2]
        for secret in sorted({password, unquote(password)}, key=len, reverse=True):
            text = text.replace(secret, "***") if secret else text
    return NAMED.sub(r"\1***", LOGIN.sub(r"\1:***@", text))


def has_secret(uri: str) -> bool:
    """Whether a URI has a password or a key in it."""
    return bool(LOGIN.search(uri) or NAMED.search(uri.partition("?")[2]))
