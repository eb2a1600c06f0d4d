"""Passwords and keys in texts: where a URI has them, and the text without them."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

BEFORE_AT = re.compile(r"(?<![^\s@])[^\s@]+@")  # whole words, so that a long text takes no longer than its length
LOGIN = re.compile(r"(://[^/:]*):.*@", re.DOTALL)
NAMED = re.compile(r"(?i)((?:password|passwd|token|secret|secret_key|session_token|sig|account_key)=)[^&\s\"']+")


def redacted(text: str, *uris: str) -> str:
    """A text without the passwords of these URIs, and of any other in it."""
    for uri in uris:
        with_user = urlsplit(uri).netloc.rpartition("@")[0]
        password = with_user.partition(":")[2]
        for secret in sorted({password, unquote(password)}, key=len, reverse=True):
            text = text.replace(secret, "***") if secret else text
    text = BEFORE_AT.sub(lambda word: LOGIN.sub(r"\1:***@", word[0]), text)
    return NAMED.sub(r"\1***", text)


def has_secret(uri: str) -> bool:
    """Whether a URI has a password or a key in it."""
    return any(LOGIN.search(word) for word in BEFORE_AT.findall(uri)) or bool(NAMED.search(uri.partition("?")[2]))
