"""Many rows of a table written by one statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Connection, Dialect, String, Table, Update, bindparam, insert, update
from sqlalchemy.sql.compiler import SQLCompiler


def insert_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows of plain values that all have the same columns; twice as fast as SQLAlchemy's own way."""
    if not rows:
        return
    columns = tuple(rows[0])
    if connection.dialect.name == "postgresql":  # one statement whatever their number, which the server knows already
        connection.exec_driver_sql(_inserted(table, columns, connection.dialect), _arrays(table, columns, rows))
        return
    compiled = _compiled(table, columns, connection.dialect)
    order = itemgetter(*(compiled.positiontup or ()))
    connection.exec_driver_sql(str(compiled), [order(row) for row in rows])


def update_many(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Set columns of the rows that have these `id`s, which stand first; plain values, the same columns of each."""
    if not rows:
        return
    columns = tuple(rows[0])
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(_updated(table, columns, connection.dialect), _arrays(table, columns, rows))
        return
    others = columns[1:]
    connection.execute(_by_id(table), [{"row": row["id"], **{name: row[name] for name in others}} for row in rows])


def _arrays(table: Table, columns: Iterable[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The columns of the rows as PostgreSQL writes arrays; the driver takes five times as long to make one."""
    return {name: _array([row[name] for row in rows], isinstance(table.c[name].type, String)) for name in columns}


def _array(values: list[Any], texts: bool) -> str:
    if texts:
        return "{" + ",".join(["NULL" if value is None else _quoted(value) for value in values]) + "}"
    return "{" + repr(values)[1:-1].replace("None", "NULL") + "}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=32)
def _compiled(table: Table, columns: tuple[str, ...], dialect: Dialect) -> SQLCompiler:
    return insert(table).compile(dialect=dialect, column_keys=list(columns))


@lru_cache(maxsize=32)
def _by_id(table: Table) -> Update:
    return update(table).where(table.c.id == bindparam("row"))


@lru_cache(maxsize=32)
def _inserted(table: Table, columns: tuple[str, ...], dialect: Dialect) -> str:
    """An insert whose parameters are the columns, each an array."""
    names, arrays = _named(table, columns, dialect)
    return f"INSERT INTO {table.name} ({', '.join(names)}) SELECT * FROM unnest({arrays})"  # noqa: S608 - our own names


@lru_cache(maxsize=32)
def _updated(table: Table, columns: tuple[str, ...], dialect: Dialect) -> str:
    """An update of the same form."""
    names, arrays = _named(table, columns, dialect)
    sets = ", ".join(f"{name} = new.{name}" for name in names[1:])
    new = f"unnest({arrays}) AS new ({', '.join(names)})"
    return f"UPDATE {table.name} SET {sets} FROM {new} WHERE {table.name}.id = new.id"  # noqa: S608 - our own names


def _named(table: Table, columns: tuple[str, ...], dialect: Dialect) -> tuple[list[str], str]:
    """The columns' names, and what gives their arrays."""
    arrays = ", ".join(f"%({name})s::{table.c[name].type.compile(dialect)}[]" for name in columns)
    return [dialect.identifier_preparer.quote(name) for name in columns], arrays
