"""Credentials in URLs: find them, and hide them in every text that is shown or recorded.

A secret in a URL would end up in records, reports, logs and Prefect's database. Recipes and command
lines with one are refused before a job exists, and what libraries say about URLs is redacted.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"
REFUSED: Final = (
    "the URL contains credentials (a user, password, token or signature), which would end up in "
    "records and logs; pass them through the environment, as the cloud's own tools read them"
)
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]{0,30})(:/+)([^\s\"'<>`]+)")
"""A URL; with one slash too, which is what is left of it where it was taken for a path.

The scheme has an end, or each letter of a long word would be tried as its beginning: of a word of
40,000 letters that took ten seconds.
"""
_WHOLE = re.compile(r"([a-zA-Z][a-zA-Z0-9+.:-]*)(:/+)(\S.*)", re.DOTALL)
"""A text that is one URL, whose secret may hold characters that end a URL in a sentence."""
_PATHS = frozenset({"file", "local"})
"""What stands after three slashes is a path, not a host."""
_SECRET_NAME = re.compile(
    r"(?:.*(?:token|secret|signature|password|passwd|passphrase|pwd|credentials?|authorization|apikey"
    r"|access_?key(?:_?id)?|private_?key)|(?:.*[_.-])?(?:sig|key|auth|jwt|pass))$",
    re.IGNORECASE,
)
"""``X-Amz-Signature``, ``X-Goog-Credential``, ``sig``, ``access_token``, ``AWSAccessKeyId``, …"""
_PARAMETER = re.compile(r"([?&;#]|%26|%3F)([\w.%-]{1,200})=([^&;#\\]+)", re.IGNORECASE)
_SENTENCE = ":.,)"
"""What follows a URL in a sentence, if it ends the text.

A pattern that looked for these signs after each character of a value was quadratic in their number.
"""
_CONTAINER = re.compile(r"[a-z0-9-]+@[a-z0-9]+\.(?:dfs|blob)\.core\.[a-z.]+")
"""Azure's ``abfs://CONTAINER@ACCOUNT.dfs.core.windows.net``: no user, and nothing secret."""
_AZURE = frozenset({"abfs", "abfss", "az", "wasb", "wasbs"})


def redact(text: str) -> str:
    """Return a text with the credentials in its URLs replaced by ``***``."""
    if ":/" not in text:
        return text
    return _URL.sub(_clean, text)


def found_in(text: str) -> bool:
    """Return whether the text contains, or is, a URL with credentials."""
    if redact(text) != text:
        return True
    whole = _WHOLE.fullmatch(text)
    return whole is not None and _clean(whole) != text


def _clean(url: re.Match[str]) -> str:
    scheme, colon, rest = url.groups()
    if scheme.lower() in _PATHS and len(colon) > len("://"):
        return url[0]
    host = re.match(r"[^/?#]*", rest)
    authority = host[0] if host else ""
    # A secret may contain a slash, so with USER:SECRET everything up to the last @ is hidden.
    searched = rest if ":" in authority else authority
    end = searched.rfind("@")
    if end >= 0 and not _is_container(scheme, authority):
        rest = HIDDEN + rest[end:]
    parameters = _PARAMETER.sub(_hide, rest)
    return f"{scheme}{colon}{parameters}"


def _is_container(scheme: str, authority: str) -> bool:
    return scheme.lower() in _AZURE and _CONTAINER.fullmatch(authority) is not None


def _hide(parameter: re.Match[str]) -> str:
    sign, name, value = parameter.groups()
    if not _SECRET_NAME.fullmatch(name):
        return parameter[0]
    after = ""
    if parameter.end() == len(parameter.string):
        end = len(value[1:].rstrip(_SENTENCE)) + 1
        after = value[end:]
    return f"{sign}{name}={HIDDEN}{after}"
