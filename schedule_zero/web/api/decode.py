"""From the bytes of a request to typed values, or to an error that says what was expected, what came, and where.

msgspec checks types and bounds while it decodes. What it leaves over is done here: depth, keys given twice in one
object, UTF-8 inside payloads that are kept as they came, RFC 6901 pointers, and what an unknown field may have been
meant to be.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct, inspect

from schedule_zero.errors import BadRequest, InvalidField, MalformedJson, ScheduleZeroError, TooDeep
from schedule_zero.web.api.routing import AnyForm, OneOrMany
from schedule_zero.web.api.wording import MISSING, Huge, sentence

# (A page of rows may be ticked.)
MAX_QUERY_FIELDS = 200
# A page of rows may be ticked.
MAX_FORM_FIELDS = 1_000
# A longer pointer is cut at a segment: it then names what holds the culprit.
MAX_POINTER = 300

# Of a whole number that is read at all, for words about it.
MAX_DIGITS = 4300

# msgspec says "<what> - at `$.a[0].b`"; "[...]" stands for some key of a dict.
_AT = re.compile(r"(?P<what>.*?)(?: - at `(?P<path>(?:key in )?\$.*)`)?", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_UNKNOWN_FIELD = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING_FIELD = re.compile(r"Object missing required field `(.*)`")
_BYTE = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)

_decode_any = msgspec.json.Decoder().decode
_encode_any = msgspec.json.Encoder().encode

# Opening brackets as +1, closing ones as -1 (of a signed byte), everything else removed.
_BRACKETS = bytes.maketrans(b"{[}]", b"\x01\x01\xff\xff")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"{[}]"))


# --- bodies ---------------------------------------------------------------------------------------


class BodyDecoder:
    """Decodes the bodies of one route."""

    def __init__(self, shape: Any, max_depth: int) -> None:
        self._max_depth = max_depth
        self._one = shape.one if isinstance(shape, OneOrMany) else shape
        self._decode_one = msgspec.json.Decoder(self._one).decode
        self._many: type[Struct] | None = None
        if isinstance(shape, OneOrMany):
            self._many = shape.many
            self._decode_many = msgspec.json.Decoder(shape.many).decode
            # Reading the key as a raw value only scans: it builds nothing.
            found = ("found", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET)
            peek: Any = msgspec.defstruct("Peek", [found], rename={"found": shape.key})
            self._peek = msgspec.json.Decoder(peek).decode

    def decode(self, body: bytes) -> Any:
        """The body as its Struct. Raises MalformedJson, TooDeep or InvalidField."""
        shape: Any = self._one
        try:
            if not body.isascii():
                body.decode()
            if self._many is not None and self._peek(body).found is not msgspec.UNSET:
                shape = self._many
                document = self._decode_many(body)
            else:
                document = self._decode_one(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise explain(error, body, shape) from None
        check_depth(body, self._max_depth)
        check_keys(body)
        return document


def check_depth(body: bytes, max_depth: int) -> None:
    """Refuse a (well-formed) body that nests deeper than ``max_depth``."""
    # Nearly every body has fewer brackets than it may have levels.
    if body.count(b"{") + body.count(b"[") <= max_depth:
        return
    # Splitting at the quotes takes a quarter of the time, and nearly no body has an escaped one.
    bare = _STRING.sub(b"", body) if b"\\" in body else b"".join(body.split(b'"')[::2])
    signs = bare.translate(_BRACKETS, _NOT_BRACKETS)
    if max(accumulate(memoryview(signs).cast("b")), default=0) > max_depth:
        raise _too_deep(body, f"nested deeper than {max_depth} levels", lambda _, depth: depth > max_depth)


def check_keys(body: bytes) -> None:
    """Refuse a (well-formed) body in which a key stands twice in one object: one of the two would be lost silently.

    Read into dicts and written again it has as many colons as before, or one was lost. That is done in C, for a
    third of a microsecond a job. (Only an escaped colon is counted differently; a closer look settles it.)
    """
    try:
        kept = _encode_any(_decode_any(body)).count(b":")
    except msgspec.DecodeError:
        # A payload that is kept as it came isn't sound. Whoever reads it tells that.
        return
    if kept != body.count(b":") or b"\\u003a" in body or b"\\u003A" in body:
        _refuse_repetition(body)


class _Members(list[tuple[str, Any]]):
    """The members of one object, as they came."""


def _refuse_repetition(body: bytes) -> None:
    todo: deque[tuple[object, list[str | int]]] = deque([(json.loads(body, object_pairs_hook=_Members), [])])
    while todo:
        value, steps = todo.popleft()
        if isinstance(value, _Members):
            seen: set[str] = set()
            for key, child in value:
                if key in seen:
                    raise InvalidField(
                        f"the key {key[:100]!r} stands twice in one object", pointer=_pointer([*steps, key])
                    )
                seen.add(key)
                todo.append((child, [*steps, key]))
        elif isinstance(value, list):
            todo.extend((child, [*steps, index]) for index, child in enumerate(value))


def _too_deep(body: bytes, message: str, culprit: Callable[[object, int], bool]) -> TooDeep:
    return TooDeep(message, pointer=_pointer(_find(_read(body), culprit) or []))


def explain(error: Exception, body: bytes, shape: Any) -> ScheduleZeroError:
    """The error to show for what msgspec (or UTF-8) had against a body."""
    if isinstance(error, RecursionError):
        return TooDeep("nested far too deeply", pointer="")
    if isinstance(error, UnicodeDecodeError):
        return _malformed("the text is not UTF-8", body, error.start)
    if isinstance(error, msgspec.ValidationError):
        return _invalid(str(error), body, shape)
    found = _BYTE.fullmatch(str(error))
    if found is not None:
        return _malformed(found[1], body, int(found[2]))
    # msgspec gives no position for these two.
    if not body.strip():
        return _malformed("the body is empty, expected a JSON object", body, 0)
    if _is_json(body):
        return _malformed(r"a string holds half of a surrogate pair (\ud800 to \udfff)", body, len(body))
    return _malformed("it ends too early", body, len(body))


def _malformed(what: str, body: bytes, byte: int) -> MalformedJson:
    line = body.count(b"\n", 0, byte) + 1
    column = byte - (body.rfind(b"\n", 0, byte) + 1) + 1
    return MalformedJson(f"the body is not JSON: {what} (line {line}, column {column}, byte {byte})", pointer="")


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return False
    return True


def _invalid(message: str, body: bytes, shape: Any) -> InvalidField:
    found = _AT.fullmatch(message)
    if found is None:
        raise AssertionError(message)
    what, path = found["what"], found["path"] or "$"
    steps = [field or int(index) for field, index in _STEP.findall(path)]
    document = _read(body)
    if "[...]" in path:
        # Only a number out of range can be wrong in a free-form value.
        found_steps = _find(document, lambda value, _: _is_out_of_range(value))
        value = MISSING if found_steps is None else _value_at(document, found_steps)
        pointer = _pointer(steps if found_steps is None else found_steps)
        return InvalidField(sentence(what, None, [], value), pointer=pointer)
    if unknown := _UNKNOWN_FIELD.fullmatch(what):
        known = _fields(inspect.type_info(shape), steps)
        return InvalidField(
            f"unknown field {unknown[1][:100]!r}",
            pointer=_pointer([*steps, unknown[1]]),
            hint=_did_you_mean(unknown[1], known),
        )
    if missing := _MISSING_FIELD.fullmatch(what):
        return InvalidField(f"the field {missing[1]!r} is missing", pointer=_pointer([*steps, missing[1]]))
    said = sentence(what, inspect.type_info(shape), steps, _value_at(document, steps))
    return InvalidField(said, pointer=_pointer(steps))


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name[:100], known, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"known are {', '.join(known)}" if known else "none is taken here"


def _fields(info: Any, steps: Sequence[str | int]) -> list[str]:
    """The names of the fields of the Struct at the end of ``steps`` below a type."""
    if isinstance(info, inspect.UnionType):
        return next((names for part in info.types if (names := _fields(part, steps))), [])
    if isinstance(info, inspect.Metadata):
        return _fields(info.type, steps)
    if isinstance(info, inspect.ListType):
        return _fields(info.item_type, steps[1:])
    if not isinstance(info, inspect.StructType):
        return []
    if not steps:
        return [field.encode_name for field in info.fields]
    return next((_fields(field.type, steps[1:]) for field in info.fields if field.encode_name == steps[0]), [])


# --- pointers -------------------------------------------------------------------------------------


def _pointer(steps: Sequence[str | int]) -> str:
    pointer = ""
    for step in steps:
        segment = "/" + str(step).replace("~", "~0").replace("/", "~1")
        if len(pointer) + len(segment) > MAX_POINTER:
            break
        pointer += segment
    return pointer


def _read(body: bytes) -> object:
    """The document, for words about it; MISSING where it can't be read."""
    try:
        return json.loads(body, parse_int=_int)
    except (ValueError, RecursionError):
        return MISSING


def _int(text: str) -> object:
    return int(text) if len(text) <= MAX_DIGITS else Huge(text)


def _is_out_of_range(value: object) -> bool:
    return isinstance(value, Huge) or (isinstance(value, float) and math.isinf(value))


def _value_at(document: object, steps: Sequence[str | int]) -> object:
    """The value at the end of ``steps``; MISSING where there is none."""
    for step in steps:
        try:
            document = document[step]  # type: ignore[index]  # what has no such step raises
        except (TypeError, KeyError, IndexError):
            return MISSING
    return document


def _find(document: object, culprit: Callable[[object, int], bool]) -> list[str | int] | None:
    """The way to the first value for which ``culprit(value, depth)`` holds; None where there is none."""
    # Not recursive: what is looked for may be its depth. Each value with the steps that lead to it, linked backwards.
    todo: list[tuple[object, int, Any]] = [(document, 1, None)]
    while todo:
        value, depth, way = todo.pop()
        nested = isinstance(value, dict | list)
        if culprit(value, depth if nested else 0):
            steps = []
            while way is not None:
                step, way = way
                steps.append(step)
            return steps[::-1]
        if isinstance(value, dict):
            todo.extend((child, depth + 1, (key, way)) for key, child in reversed(value.items()))
        elif isinstance(value, list):
            todo.extend((child, depth + 1, (index, way)) for index, child in reversed(list(enumerate(value))))
    return None


# --- query strings --------------------------------------------------------------------------------


class QueryDecoder:
    """Decodes the query strings of one route: text to the types of its Struct, lists by comma or repetition."""

    # What one value is called in errors.
    word = "query parameter"
    most = MAX_QUERY_FIELDS

    def __init__(self, shape: type[Struct]) -> None:
        self._shape = shape
        self._info = info = inspect.type_info(shape)
        assert isinstance(info, inspect.StructType)
        self._names = [field.encode_name for field in info.fields]
        self._lists = {field.encode_name for field in info.fields if _holds_list(field.type)}
        self._default = shape() if not any(field.required for field in info.fields) else None

    def decode(self, query: str) -> Any:
        """The query string as its Struct. Raises InvalidField that names the parameter."""
        if not query and self._default is not None:
            return self._default
        return self.convert(pairs_of(query, "query string", self.most))

    def convert(self, pairs: Sequence[tuple[str, str]]) -> Any:
        """Names and values as the Struct."""
        values: dict[str, Any] = {}
        for name, value in pairs:
            if name not in self._names:
                raise InvalidField(
                    f"unknown {self.word} {name[:100]!r}", parameter=name, hint=_did_you_mean(name, self._names)
                )
            if name in self._lists:
                values.setdefault(name, []).extend(part.strip() for part in value.split(","))
            elif name in values:
                raise InvalidField(f"the {self.word} {name!r} is given twice", parameter=name)
            else:
                values[name] = value
        try:
            return msgspec.convert(values, self._shape, strict=False)
        except msgspec.ValidationError as error:
            found = _AT.fullmatch(str(error))
            if found is None:
                raise AssertionError(str(error)) from None
            missing = _MISSING_FIELD.fullmatch(found["what"])
            if missing is not None:
                raise InvalidField(f"the {self.word} {missing[1]!r} is missing", parameter=missing[1]) from None
            steps = [field or int(index) for field, index in _STEP.findall(found["path"] or "")]
            what = sentence(found["what"], self._info, steps, _value_at(values, steps), as_text=True)
            raise InvalidField(f"{self.word} {steps[0]!r}: {what}", parameter=steps[0]) from None


class FormDecoder(QueryDecoder):
    """Decodes the forms of one page's route. A field that was left empty was not given."""

    word = "field"
    most = MAX_FORM_FIELDS

    def decode_fields(self, fields: Sequence[tuple[str, str]]) -> Any:
        """The fields of a form as the route's Struct. Raises InvalidField that names the field."""
        if self._shape is AnyForm:
            return AnyForm(list(fields))
        return self.convert([(name, value) for name, value in fields if value])


def pairs_of(text: str, what: str, most: int) -> list[tuple[str, str]]:
    """``a=1&b=2`` as names and values, in order. Raises BadRequest."""
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=most)
    except UnicodeDecodeError:
        raise BadRequest(f"the {what} is not UTF-8, percent-encoded") from None
    except ValueError:
        raise BadRequest(f"expected at most {most} fields in the {what}") from None


def _holds_list(info: Any) -> bool:
    if isinstance(info, inspect.UnionType):
        return any(_holds_list(part) for part in info.types)
    if isinstance(info, inspect.Metadata):
        return _holds_list(info.type)
    return isinstance(info, inspect.ListType)
