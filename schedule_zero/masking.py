"""What must never be shown: recognises secrets by the name they go by and by what they look like.

Used by logs and by everything that shows settings. Leaf: standard library only.
"""

from __future__ import annotations

import re

MASK = "***"

_NAME = re.compile(
    r"(^|[._-])(token|secret|password|passwd|authorization|cookie|api[_-]?key|private[_-]?key)($|[._-])", re.IGNORECASE
)
# scheme://user:password@host: the password reaches to the last @, so that one inside it doesn't end it.
_URL_PASSWORD = re.compile(r"(?<=://)([^\s:/@]*):([^\s]+)@")
_QUERY_PASSWORD = re.compile(r"(?i)([?&](?:password|token|secret)=)[^&\s]+")
# A token of ours, wherever it turns up (``service.access``: sz_ and 43 characters).
_TOKEN = re.compile(r"\bsz_[A-Za-z0-9_-]{20,}")


def is_secret_name(name: str) -> bool:
    """Whether a value of this name is a secret (``password``, ``admin_token``; not ``tokens``, ``token_id``)."""
    return _NAME.search(name) is not None and not name.lower().endswith(("_id", "-id", ".id"))


def mask_text(text: str) -> str:
    """``text`` without the passwords of its URLs and without tokens of ours."""
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1:{MASK}@", text)
        text = _QUERY_PASSWORD.sub(rf"\1{MASK}", text)
    return _TOKEN.sub(MASK, text) if "sz_" in text else text
