"""Kubernetes quantities (`500m`, `1.5Gi`, `1e3`): parsed, summed, compared, and written as the server writes them."""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from functools import lru_cache

PATTERN = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
MISMATCH = f"quantities must match the regular expression '{PATTERN}'"
BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
NANO, MILLI = Decimal(1).scaleb(-9), Decimal(1).scaleb(-3)


class BadQuantity(ValueError):
    """What the server says about text that is no quantity."""


def parse(value: str | int | float) -> tuple[Decimal, str]:
    """The exact amount (rounded up to nanos) and the form it was written in: "binary", "decimal" or "exponent"."""
    return _parse(str(value))


@lru_cache(maxsize=4096)
def _parse(text: str) -> tuple[Decimal, str]:
    found = re.match(PATTERN, text)
    if found is None or not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", found[1]):
        raise BadQuantity(MISMATCH)
    number, suffix = Decimal(found[1]), found[2]
    if suffix in BINARY:
        amount, form = number * (1 << BINARY[suffix]), "binary"
    elif suffix in DECIMAL:
        amount, form = number.scaleb(DECIMAL[suffix]), "decimal"
    elif exponent := re.fullmatch(r"[eE]([-+]?\d+)", suffix):
        amount, form = number.scaleb(int(exponent[1])), "exponent"
    else:
        raise BadQuantity("unable to parse quantity's suffix")
    return amount.quantize(NANO, ROUND_CEILING), form


def amount(value: str | int | float) -> Decimal:
    return parse(value)[0]


def canonical(value: str | int | float) -> str:
    """The form in which the server gives a quantity back: no fraction, the largest suffix that allows that."""
    number, form = parse(value)
    if form == "binary" and (abs(number) < 1024 or number != number.to_integral_value()):
        form = "decimal"
    if number == 0:
        return "0"
    if form == "binary":
        return _binary(int(number))
    return _decimal(number, exponent=form == "exponent")


def in_millis(value: str) -> str:
    """Rounded up to thousandths, the finest that a container can ask for."""
    number, _ = parse(value)
    return value if not number.scaleb(3) % 1 else _decimal(number.quantize(MILLI, ROUND_CEILING), exponent=False)


def _binary(number: int) -> str:
    suffix = ""
    for unit, bits in BINARY.items():
        if number % (1 << bits):
            break
        suffix = unit
    return f"{number >> BINARY[suffix]}{suffix}" if suffix else str(number)


def _decimal(number: Decimal, *, exponent: bool) -> str:
    chosen, power = "n", -9
    for unit, size in DECIMAL.items():
        scaled = number.scaleb(-size)
        if scaled == scaled.to_integral_value():
            chosen, power = unit, size
    whole = int(number.scaleb(-power))
    if exponent:
        return f"{whole}e{power}" if power else str(whole)
    return f"{whole}{chosen}"


def total(values: list[str]) -> str:
    """The sum, in the form of the first one that is not zero."""
    numbers = [parse(value) for value in values]
    form = next((form for number, form in numbers if number), "decimal")
    result = sum((number for number, _ in numbers), Decimal(0))
    if form == "binary" and result == result.to_integral_value() and abs(result) >= 1024:
        return _binary(int(result))
    return "0" if result == 0 else _decimal(result, exponent=False)
