"""Kubernetes quantities of bytes, for those parts of the client that are installed without kubernetes."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(\d{1,18}(?:\.\d{0,9})?)(?:([KMGTPE])i|([kMGTPE]))?", re.ASCII)
_POWERS = "KMGTPE"


def whole_bytes(amount: object) -> int | None:
    """Return a quantity (`64Mi`, `1.5Gi`, `100M`, 1000) in bytes; None for other text."""
    match = _QUANTITY.fullmatch(str(amount))
    if match is None or isinstance(amount, bool):
        return None
    number, binary, decimal = match.groups()
    base, suffix = (1024, binary) if binary else (1000, (decimal or "").upper())
    return int(Decimal(number) * base ** (_POWERS.index(suffix) + 1 if suffix else 0))
