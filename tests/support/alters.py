"""A table under ALTERs: the statements, their results, and how Vitess reads old rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

CHARSETS = ("utf8mb4", "latin1")


@dataclass(frozen=True, slots=True)
class Column:
    """A column: the type without its size, the size, the ENUM's labels; charset of text only."""

    name: str
    kind: str
    size: int = 0
    charset: str = ""
    labels: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """Write the type as a statement does."""
        if self.labels:
            return f"enum({','.join(map(repr, self.labels))})"
        base, _, sign = self.kind.partition(" ")
        return f"{base}({self.size}) {sign}".strip() if self.size else self.kind

    @property
    def shown(self) -> str:
        """Write the type as FIELD does."""
        return self.type


@dataclass(frozen=True, slots=True)
class Table:
    """A table; new columns are numbered, so that no name is used twice."""

    columns: tuple[Column, ...]
    charset: str = "utf8mb4"
    made: int = 0


def begin() -> Table:
    """Return the initial table."""
    return Table(
        (
            Column("id", "bigint"),
            Column("a", "varchar", 20, "utf8mb4"),
            Column("b", "varchar", 20, "utf8mb4"),
            Column("l", "varchar", 20, "latin1"),
            Column("n", "int"),
            Column("m", "int"),
            Column("d", "decimal", 10),
            Column("e", "enum", 0, "utf8mb4", ("x", "y", "z")),
        )
    )


def shows(written: Table, today: Table) -> tuple[Column, ...] | None:
    """Return FIELD's columns for old rows; None if Vitess notices that they do not fit."""
    first = today.columns[: len(written.columns)]
    if len(first) < len(written.columns):
        return None
    if any(_logged(a) != _logged(b) for a, b in zip(written.columns, first, strict=True)):
        return None  # @1, @2, ...
    return first


def _logged(column: Column) -> str:
    return column.kind.partition(" ")[0]


def is_misread(written: Table, today: Table) -> bool:
    """Return whether rows come with other names or other values."""
    columns = shows(written, today)
    return columns is None or any(
        (a.name, a.kind, a.charset) != (b.name, b.kind, b.charset)
        or b.labels[: len(a.labels)] != a.labels
        for a, b in zip(written.columns, columns, strict=True)
    )


Action = Callable[[Table, random.Random], tuple[str, Table] | None]


def alter(kind: str, table: Table, chance: random.Random) -> tuple[str, Table]:
    """Return an ALTER of a kind, and its result; an impossible one becomes an empty one."""
    done = {**SAFE, **UNSAFE}[kind](table, chance)
    action, behind = done or ("comment 'nothing'", table)
    return f"alter table t {action}", behind


def _put(table: Table, at: int, column: Column) -> Table:
    columns = (*table.columns[:at], column, *table.columns[at + 1 :])
    return replace(table, columns=columns)


def _fresh(table: Table, chance: random.Random) -> tuple[Column, str, Table]:
    made = table.made + 1
    kind, size, charset = chance.choice([("int", 0, ""), ("varchar", 30, "x"), ("decimal", 8, "")])
    clause = ""
    if charset:
        charset = chance.choice([table.charset, *CHARSETS])
        clause = f" character set {charset}" if charset != table.charset else ""
    column = Column(f"x{made}", kind, size, charset)
    return column, f"{column.name} {column.type}{clause}", replace(table, made=made)


def _add_last(table: Table, chance: random.Random) -> tuple[str, Table]:
    column, text, table = _fresh(table, chance)
    after = chance.choice(["", f" after {table.columns[-1].name}"])
    return f"add column {text}{after}", replace(table, columns=(*table.columns, column))


def _add_two(table: Table, chance: random.Random) -> tuple[str, Table]:
    one, first, table = _fresh(table, chance)
    other, second, table = _fresh(table, chance)
    action = chance.choice(
        [f"add ({first}, {second})", f"add {first}, add index ({one.name}), add {second}"]
    )
    return action, replace(table, columns=(*table.columns, one, other))


def _resize(table: Table, chance: random.Random) -> tuple[str, Table]:
    """Another size of the same type, written carefully: with the charset."""
    places = [i for i, c in enumerate(table.columns) if c.kind in {"varchar", "decimal"}]
    at = chance.choice(places)
    old = table.columns[at]
    size = old.size + 1 if old.kind == "decimal" else min(old.size + chance.randint(1, 40), 600)
    new = replace(old, size=min(size, 60) if old.kind == "decimal" else size)
    # Always written the same: a column needs it if its charset is not the table's.
    clause = f" character set {new.charset}" if new.charset and new.charset != table.charset else ""
    verb = chance.choice([f"modify column {new.name}", f"change {new.name} {new.name}"])
    return f"{verb} {new.type}{clause} null", _put(table, at, new)


def _label_last(table: Table, chance: random.Random) -> tuple[str, Table] | None:
    at = next((i for i, c in enumerate(table.columns) if c.labels), None)
    if at is None:
        return None
    labels = (*table.columns[at].labels, f"v{table.made}{chance.randrange(1000)}")
    new = replace(table.columns[at], labels=labels)
    clause = f" character set {new.charset}" if new.charset != table.charset else ""
    return f"modify {new.name} {new.type}{clause}", _put(table, at, new)


def _careless(table: Table, chance: random.Random) -> tuple[str, Table]:
    """Another size without the charset: the column gets the table's."""
    places = [i for i, c in enumerate(table.columns) if c.kind == "varchar"]
    at = chance.choice(places)
    new = replace(table.columns[at], size=table.columns[at].size + 1, charset=table.charset)
    return f"modify {new.name} {new.type}", _put(table, at, new)


def _charset(table: Table, chance: random.Random) -> tuple[str, Table]:
    places = [i for i, c in enumerate(table.columns) if c.kind == "varchar"]
    at = chance.choice(places)
    new = replace(table.columns[at], charset=chance.choice(CHARSETS))
    return f"modify {new.name} {new.type} character set {new.charset}", _put(table, at, new)


def _default_charset(table: Table, chance: random.Random) -> tuple[str, Table]:
    charset = chance.choice(CHARSETS)
    return f"default charset {charset}", replace(table, charset=charset)


def _sign(table: Table, chance: random.Random) -> tuple[str, Table] | None:
    places = [i for i, c in enumerate(table.columns) if c.kind.startswith("int")]
    if not places:
        return None
    at = chance.choice(places)
    new = replace(table.columns[at], kind=chance.choice(["int", "int unsigned"]), size=0)
    return f"modify {new.name} {new.type}", _put(table, at, new)


def _widen(table: Table, chance: random.Random) -> tuple[str, Table] | None:
    places = [i for i, c in enumerate(table.columns) if c.kind in {"int", "bigint"} and i]
    if not places:
        return None
    at = chance.choice(places)
    new = replace(table.columns[at], kind=chance.choice(["int", "bigint"]))
    return f"modify {new.name} {new.type}", _put(table, at, new)


def _relabel(table: Table, chance: random.Random) -> tuple[str, Table] | None:
    at = next((i for i, c in enumerate(table.columns) if c.labels), None)
    if at is None:
        return None
    labels = [*table.columns[at].labels]
    chance.shuffle(labels)
    new = replace(table.columns[at], labels=tuple(labels))
    clause = f" character set {new.charset}" if new.charset != table.charset else ""
    return f"modify {new.name} {new.type}{clause}", _put(table, at, new)


def _rename(table: Table, chance: random.Random) -> tuple[str, Table]:
    at = chance.randrange(1, len(table.columns))
    old = table.columns[at]
    new = replace(old, name=f"r{table.made + 1}")
    behind = replace(_put(table, at, new), made=table.made + 1)
    return f"rename column {old.name} to {new.name}", behind


def _exchange(table: Table, chance: random.Random) -> tuple[str, Table]:
    at, other = chance.sample(range(1, len(table.columns)), 2)
    one, two = table.columns[at], table.columns[other]
    action = f"rename column {one.name} to {two.name}, rename column {two.name} to {one.name}"
    behind = _put(table, at, replace(one, name=two.name))
    return action, _put(behind, other, replace(two, name=one.name))


def _add_inside(table: Table, chance: random.Random) -> tuple[str, Table]:
    column, text, table = _fresh(table, chance)
    at = chance.randrange(1, len(table.columns))
    columns = (*table.columns[:at], column, *table.columns[at:])
    return f"add column {text} after {table.columns[at - 1].name}", replace(table, columns=columns)


def _droppable(table: Table) -> list[int]:
    """Return the places of columns that may be dropped: not a VARCHAR and the numbers."""
    return [i for i, c in enumerate(table.columns) if c.name not in {"id", "a", "n", "m"}]


def _drop(table: Table, chance: random.Random) -> tuple[str, Table] | None:
    if not (places := _droppable(table)):
        return None
    at = chance.choice(places)
    columns = (*table.columns[:at], *table.columns[at + 1 :])
    return f"drop column {table.columns[at].name}", replace(table, columns=columns)


def _drop_last_add_last(table: Table, chance: random.Random) -> tuple[str, Table] | None:
    if len(table.columns) - 1 not in _droppable(table):
        return None
    column, text, behind = _fresh(table, chance)
    columns = (*table.columns[:-1], column)
    action = f"drop column {table.columns[-1].name}, add column {text}"
    return action, replace(behind, columns=columns)


SAFE: dict[str, Action] = {
    "add last": _add_last,
    "add two": _add_two,
    "resize": _resize,
    "label last": _label_last,
    "index": lambda table, chance: (f"add index i{chance.randrange(10**9)} (n)", table),
}
UNSAFE: dict[str, Action] = {
    "careless": _careless,
    "charset": _charset,
    "default charset": _default_charset,
    "sign": _sign,
    "widen": _widen,
    "relabel": _relabel,
    "rename": _rename,
    "exchange": _exchange,
    "add inside": _add_inside,
    "drop": _drop,
    "drop last, add last": _drop_last_add_last,
}
