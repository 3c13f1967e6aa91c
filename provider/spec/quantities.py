"""Kubernetes quantities: `200m`, `512Mi`, `0.5`, `1e3`."""

from __future__ import annotations

import re
from decimal import Decimal

# Signs are left out on purpose: nothing in a spec can be negative. Digits are bounded as Kubernetes bounds them.
PATTERN = r"([0-9]{1,18}(\.[0-9]{0,9})?|\.[0-9]{1,9})(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?[0-9]{1,2})?"
_QUANTITY = re.compile(PATTERN)
_FACTORS = {
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), start=1)},
    **{
        unit: Decimal(1000) ** power for power, unit in enumerate(("n", "u", "m", "", "k", "M", "G", "T", "P", "E"), -3)
    },
}


def amount(text: str) -> Decimal | None:
    """The number that a quantity means (cores, bytes), or None if `text` is no quantity."""
    match = _QUANTITY.fullmatch(text)
    if match is None:
        return None
    digits, suffix = match[1], match[3] or ""
    factor = _FACTORS.get(suffix)
    return Decimal(digits) * factor if factor is not None else Decimal(digits + suffix)


def is_positive(text: str) -> bool:
    """Whether `text` is a quantity above zero."""
    value = amount(text)
    return value is not None and value > 0
