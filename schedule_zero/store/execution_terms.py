"""What the terms of a search ask of a row, in SQL, the same on SQLite and PostgreSQL.

A condition is text about the row ``seen`` with its values bound beside it. Searches of one shape are one statement,
whatever they look for. Only here does a database look into documents: into ``params`` and ``error``, of rows that a
walk has come to, and only of so many.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

from schedule_zero.model import State
from schedule_zero.rules.search import ANYTHING, Pattern, Q, Term, took_us
from schedule_zero.rules.search_values import is_number

# Greater than every id that begins like that: ids are ASCII.
AFTER = "~"
_COLUMNS = {Q.HANDLER: "handler_id", Q.SCHEDULE: "schedule_id", Q.NODE: "node_id", Q.GROUP: "group_id",
            Q.ORIGIN: "origin"}  # fmt: skip
_KEYS = ("concurrency_key", "rate_key", "sticky_key", "idempotency_key")
_STARS = re.compile(r"[\[?*]")
_PERCENTS = re.compile(r"([\\%_])")
# Of letters, both databases fold these alike.
_LOWER = str.maketrans({chr(upper): chr(upper + 32) for upper in range(ord("A"), ord("Z") + 1)})


class Conditions:
    """Collects what a row has to fulfil."""

    def __init__(self, dialect: str, now_us: int) -> None:
        self.sql: list[str] = []
        # That the conditions read.
        self.columns: dict[str, None] = {}
        self.values: dict[str, Any] = {}
        self._sqlite = dialect == "sqlite"
        self._now_us = now_us

    def compare(self, column: str, op: str, value: str | int) -> None:
        """The column compared with a value; NULL fulfils nothing."""
        self.sql.append(f"{self._column(column)} {op} {self._bind(value)}")

    def in_states(self, states: Iterable[State]) -> None:
        """In one of these states."""
        words = ", ".join(f"'{state.value}'" for state in State if state in set(states))
        self.sql.append(f"{self._column('state')} IN ({words})")

    def terms(self, terms: Sequence[Term]) -> None:
        """All of these; states and times are for others to see to."""
        for term in terms:
            if term.qualifier not in (Q.STATE, Q.SINCE, Q.UNTIL):
                sql = self._term(term)
                # What is not known (no node, no such parameter) is not so, and "not so" holds for it.
                self.sql.append(f"({sql}) IS NOT TRUE" if term.negated else f"({sql})")

    # --- of one term ----------------------------------------------------------------------------------

    def _term(self, term: Term) -> str:
        qualifier = term.qualifier
        if qualifier in _COLUMNS:
            return self._any(self._column(_COLUMNS[qualifier]), term.values)
        if qualifier is Q.JOB:
            return self._any(f"({self._column('handler_id')} || '.' || {self._column('job_method')})", term.values)
        if qualifier is Q.KEY:
            return self._key(term.values)
        if qualifier is Q.ATTEMPT:
            return f"{self._column('attempt')} {term.op or '='} {self._bind(int(term.text))}"
        if qualifier is Q.TOOK:
            return self._took(term)
        if qualifier is Q.ARG:
            return self._arg(term)
        if qualifier is Q.ID:
            return " OR ".join(self._begins(value[0]) for value in term.values)
        if qualifier is Q.ERROR:
            return self._error(term.text)
        assert qualifier is Q.TEXT, qualifier
        return f"{self._begins(term.text.translate(_LOWER))} OR ({self._error(term.text)})"

    def _key(self, patterns: Sequence[Pattern]) -> str:
        """Any of an execution's keys; the unique one also as it was before it was made one of its job."""
        alike = [self._any(self._column(name), patterns) for name in _KEYS]
        unique, handler, method = (self._column(name) for name in ("unique_key", "handler_id", "job_method"))
        alike.append(self._any(unique, patterns))
        alike.append(self._any(f"substr({unique}, length({handler}) + length({method}) + 3)", patterns))
        return " OR ".join(alike)

    def _took(self, term: Term) -> str:
        state, finished, started = (self._column(name) for name in ("state", "finished_us", "started_us"))
        end = f"CASE WHEN {state} = '{State.RUNNING.value}' THEN {self._bind(self._now_us)} ELSE {finished} END"
        return f"({end}) - {started} {term.op} {self._bind(took_us(term))}"

    def _begins(self, prefix: str) -> str:
        column = self._column("id")
        return f"({column} >= {self._bind(prefix)} AND {column} < {self._bind(prefix + AFTER)})"

    def _error(self, text: str) -> str:
        """In the error's type and message as they are shown, in whichever case."""
        wanted = text.translate(_LOWER)
        error, value = self._column("error"), self._bind(wanted)
        if self._sqlite:
            kind, message = (f"coalesce(json_extract({error}, '$.{part}'), '')" for part in ("type", "message"))
            found = f"instr(lower({kind} || ': ' || {message}), {value}) > 0"
        else:
            kind, message = (f"coalesce({_jsonb(error)} ->> '{part}', '')" for part in ("type", "message"))
            found = f"strpos({_LOWERED.format(f'({kind} || {_COLON} || {message})')}, {value}) > 0"
        skipped = f"{error} IS NULL"
        # What no encoder escapes is in the document as it is: most are not even read.
        part = max(wanted.split(": "), key=len)
        if _PLAIN.fullmatch(part):
            lowered = f"lower({error})" if self._sqlite else _LOWERED.format(error)
            skipped += f" OR ({self._lacks(lowered, part)} AND {self._lacks(error, _ESCAPE)})"
        return f"CASE WHEN {skipped} THEN FALSE ELSE {found} END"

    def _lacks(self, document: str, text: str) -> str:
        return f"{'instr' if self._sqlite else 'strpos'}({document}, {self._bind(text)}) = 0"

    # --- text -----------------------------------------------------------------------------------------

    def _any(self, text: str, patterns: Sequence[Pattern]) -> str:
        literal = [self._bind(pattern[0]) for pattern in patterns if len(pattern) == 1]
        alike = [self._like(text, pattern) for pattern in patterns if len(pattern) > 1]
        if literal:
            alike.append(f"{text} IN ({', '.join(literal)})")
        return "(" + " OR ".join(alike) + ")"

    def _like(self, text: str, pattern: Pattern) -> str:
        if pattern == ANYTHING:
            return f"{text} IS NOT NULL"
        if self._sqlite:
            # (LIKE takes no notice of case there.)
            glob = "*".join(_STARS.sub(r"[\g<0>]", piece) for piece in pattern)
            return f"{text} GLOB {self._bind(glob)}"
        like = "%".join(_PERCENTS.sub(r"\\\1", piece) for piece in pattern)
        return f"{text} LIKE {self._bind(like)}"

    def _globs(self, text: str, given: str, patterns: Sequence[Pattern]) -> list[str]:
        """Those of the patterns that have stars; ``given`` says that there is anything at all."""
        alike = [pattern for pattern in patterns if len(pattern) > 1]
        return [given if pattern == ANYTHING else f"({self._like(text, pattern)})" for pattern in alike]

    # --- parameters -------------------------------------------------------------------------------------

    def _arg(self, term: Term) -> str:
        params = self._column("params")
        if self._sqlite:
            found = " OR ".join(self._arg_sqlite(params, path, term) for path in _sqlite_paths(term.path))
        else:
            found = self._arg_postgres(params, term)
        # Only what may have it is read: name and value are in the document as they are, unless written in escapes.
        name = [step for step in term.path if isinstance(step, str)][-1]
        skipped = self._lacks(params, f"{_QUOTE}{name}{_QUOTE}")
        parts = [None] if term.op else [_verbatim(pattern) for pattern in term.values]
        if all(parts):
            skipped = f"({skipped} OR ({' AND '.join(self._lacks(params, part) for part in parts if part)}))"
        return f"CASE WHEN {skipped} AND {self._lacks(params, _ESCAPE)} THEN FALSE ELSE {found} END"

    def _arg_sqlite(self, params: str, path: str, term: Term) -> str:
        at = self._bind(path)
        kind, value = f"json_type({params}, {at})", f"json_extract({params}, {at})"
        if term.op:
            number = f"CAST({self._bind(term.text)} AS NUMERIC)"
            return f"CASE WHEN {kind} IN ('integer', 'real') THEN {value} {term.op} {number} ELSE FALSE END"
        literal = [pattern[0] for pattern in term.values if len(pattern) == 1]
        texts = ", ".join(map(self._bind, literal))
        numbers = ", ".join(f"CAST({self._bind(text)} AS NUMERIC)" for text in literal if is_number(text))
        alike = []
        if literal:
            alike.append(
                f"CASE {kind} WHEN 'text' THEN {value} IN ({texts})"
                f" WHEN 'integer' THEN {value} IN ({numbers}) WHEN 'real' THEN {value} IN ({numbers})"
                f" ELSE {kind} IN ('true', 'false', 'null') AND {kind} IN ({texts}) END"
            )
        shown = f"CASE {kind} WHEN 'text' THEN {value} WHEN 'integer' THEN CAST({value} AS TEXT)"
        shown += f" WHEN 'real' THEN CAST({value} AS TEXT) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' END"
        alike += self._globs(f"({shown})", f"{kind} <> 'null'", term.values)
        return "(" + " OR ".join(alike) + ")"

    def _arg_postgres(self, params: str, term: Term) -> str:
        path = self._bind(_postgres_path(term.path))
        value = f"jsonb_path_query_first({_jsonb(params)}, CAST({path} AS jsonpath), '{{}}', true)"
        if term.op:
            number = f"CAST({self._bind(term.text)} AS jsonb)"
            alike = [f"CASE WHEN jsonb_typeof(j.v) = 'number' THEN j.v {term.op} {number} ELSE FALSE END"]
        else:
            documents = [one for pattern in term.values if len(pattern) == 1 for one in _documents(pattern[0])]
            alike = [f"j.v IN ({', '.join(f'CAST({self._bind(one)} AS jsonb)' for one in documents)})"] * bool(
                documents
            )
            shown = "(CASE WHEN jsonb_typeof(j.v) IN ('string', 'number', 'boolean') THEN j.v #>> '{}' END)"
            alike += self._globs(shown, "jsonb_typeof(j.v) <> 'null'", term.values)
        # (OFFSET 0: so that the document is read once, however often the value is asked for.)
        return f"(SELECT {' OR '.join(alike)} FROM (SELECT {value} AS v OFFSET 0) AS j)"

    # --- parts ----------------------------------------------------------------------------------------

    def _column(self, name: str) -> str:
        self.columns[name] = None
        return f"seen.{name}"

    def _bind(self, value: str | int) -> str:
        name = f"v{len(self.values)}"
        self.values[name] = value
        return f":{name}"


_LOWERED = 'lower(({}) COLLATE "C")'
_COLON, _QUOTE, _ESCAPE = "': '", '"', "\\u"
_PLAIN = re.compile(r"[a-z0-9 _.,:;=+*'()\[\]-]+")
_UNREADABLE, _REPLACEMENT = r"\u0000", r"\ufffd"


def _jsonb(document: str) -> str:
    """PostgreSQL's jsonb takes all JSON but NULs in text."""
    return f"CAST(replace({document}, '{_UNREADABLE}', '{_REPLACEMENT}') AS jsonb)"


def _verbatim(pattern: Pattern) -> str | None:
    """What is in every document with such a value, whichever encoder wrote it; None: nothing can be told."""
    part = max(pattern, key=len)
    if not _PLAIN.fullmatch(part.lower()):
        return None
    # 9.5 may be written as 9.50.
    return None if len(pattern) == 1 and is_number(part) and not part.removeprefix("-").isdecimal() else part


def _sqlite_paths(path: Sequence[str | int]) -> list[str]:
    """How a path is written there. It compares names as they were written: some encoders escape what is not ASCII."""
    plain = "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in path)
    escaped = "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{json.dumps(step)}" for step in path)
    return list(dict.fromkeys((plain, escaped)))


def _postgres_path(path: Sequence[str | int]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else "." + json.dumps(step, ensure_ascii=False) for step in path)
    return "strict $" + "".join(steps)


def _documents(text: str) -> list[str]:
    """The JSON values that are shown as this text."""
    bare = [text] if text in ("true", "false", "null") or is_number(text) else []
    return [json.dumps(text, ensure_ascii=False), *bare]
