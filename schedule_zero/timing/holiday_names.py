"""Public holidays by country and subdivision: the one user of ``holidays``, which is imported when first asked.

The library knows 250 countries by their ISO 3166 codes, and which categories of holidays each has. Names come in
English where the library has them, so that the ledger of a server reads the same whatever its locale is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Any

from schedule_zero.errors import InvalidCalendar

if TYPE_CHECKING:
    from holidays import HolidayBase

SUGGESTIONS = 5


def holidays_of_year(
    country: str, subdivision: str | None, categories: tuple[str, ...] | None, year: int
) -> Mapping[date, str]:
    """The days and their names. What is asked for has to be known: see ``country_code`` and the others."""
    entity = _entity(country)
    found = entity(years=year, expand=False, subdiv=subdivision, categories=categories, language=_language(entity))
    # A holiday that is observed on another day may lie in the year before or after; that year has it as well.
    return {day: name for day, name in found.items() if day.year == year}


def country_code(said: str, pointer: str) -> str:
    """The two-letter code of a country that is known. InvalidCalendar with close matches otherwise."""
    codes = _codes()
    code = codes.get(said.upper())
    if code is not None:
        return code
    names = {name.lower(): f"{code} ({name})" for name, code in _names().items()}
    by_code = {code.lower(): f"{code} ({name})" for name, code in _names().items()}
    raise InvalidCalendar(
        f"expected the ISO 3166 code of a country that has holidays here, such as DE, got {said!r}",
        pointer=pointer,
        hint=_did_you_mean(said, names | by_code),
    )


def subdivision_code(country: str, said: str, pointer: str) -> str:
    """The code of a part of that country. InvalidCalendar with close matches otherwise."""
    entity = _entity(country)
    aliases: Mapping[str, str] = entity.subdivisions_aliases
    known = {code.upper(): code for code in entity.subdivisions} | {
        name.upper(): code for name, code in aliases.items()
    }
    code = known.get(said.upper())
    if code is not None:
        return code
    if not entity.subdivisions:
        raise InvalidCalendar(f"{country} has no subdivisions here, got {said!r}", pointer=pointer)
    shown = {code.lower(): code for code in entity.subdivisions}
    shown |= {name.lower(): f"{code} ({name})" for name, code in aliases.items()}
    raise InvalidCalendar(
        f"expected a subdivision of {country}, got {said!r}",
        pointer=pointer,
        hint=_did_you_mean(said, shown) or "known are " + ", ".join(entity.subdivisions),
    )


def check_category(country: str, said: str, pointer: str) -> None:
    """Refuse a category that this country does not have."""
    supported = _entity(country).supported_categories
    if said not in supported:
        raise InvalidCalendar(
            f"expected a category of {country}'s holidays ({', '.join(supported)}), got {said!r}", pointer=pointer
        )


def _did_you_mean(said: str, shown: Mapping[str, str]) -> str | None:
    close = get_close_matches(said.lower(), shown, n=SUGGESTIONS)
    # "Germany, federal" and "usa." are near nothing by letters alone.
    close += [name for name in shown if len(said) > 3 and (name in said.lower() or said.lower() in name)]
    words = list(dict.fromkeys(shown[name] for name in close))[:SUGGESTIONS]
    return f"did you mean {' or '.join(words)}?" if words else None


def _entity(country: str) -> type[HolidayBase]:
    import holidays

    # Looked up in the table of countries before; never by a name that came from outside.
    loader: Any = getattr(holidays, country)
    entity: type[HolidayBase] = loader.get_entity()
    return entity


def _language(entity: type[HolidayBase]) -> str | None:
    own = entity.default_language
    if own is not None and own.startswith("en"):
        return own
    english = [language for language in entity.supported_languages if language.startswith("en")]
    return "en_US" if "en_US" in english else next(iter(english), own)


@cache
def _codes() -> dict[str, str]:
    """Every code of every country, to its two-letter one."""
    from holidays.registry import COUNTRIES

    return {code: names[1] for names in COUNTRIES.values() for code in names[1:] if len(code) <= 3}


@cache
def _names() -> dict[str, str]:
    """The countries' names as words, to their codes."""
    from holidays.registry import COUNTRIES

    return {module.replace("_", " ").title(): names[1] for module, names in COUNTRIES.items()}
