"""The Parquet and JSON-lines files that both versions are made of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Shaped

from policies.data.layout import DatasetError
from vla.strict_json import strict_json

LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
PANDAS_INDEX = "__index_level_0__"
"""How pandas calls an index without a name."""


class RowGroups:
    """One Parquet file that tables are added to, a row group each."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._stream = path.open("wb")
        self._writer = pq.ParquetWriter(self._stream, schema, compression="snappy")

    @property
    def bytes(self) -> int:
        return self._stream.tell()

    def write(self, table: pa.Table) -> None:
        self._writer.write_table(table, row_group_size=max(1, table.num_rows))

    def close(self) -> None:
        self._writer.close()
        self._stream.close()


def write_table(path: Path, table: pa.Table) -> None:
    """A Parquet file of one table."""
    file = RowGroups(path, table.schema)
    file.write(table)
    file.close()


def tasks_table(instructions: Sequence[str]) -> pa.Table:
    """Instructions by their number, as pandas writes a frame whose index ``task`` they are."""

    def column(name: str, kind: str, numpy_type: str) -> dict[str, Any]:
        return {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy_type, "metadata": None}

    pandas = {
        "index_columns": ["task"],
        "column_indexes": [column("", "unicode", "object") | {"name": None, "field_name": None}],
        "columns": [column("task_index", "int64", "int64"), column("task", "unicode", "object")],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = pa.table({"task_index": pa.array(range(len(instructions)), pa.int64()), "task": list(instructions)})
    return table.replace_schema_metadata({"pandas": json.dumps(pandas, allow_nan=False)})


def instructions_by_number(rows: Sequence[Mapping[str, Any]]) -> dict[int, str]:
    """What :func:`tasks_table`, or the lines of ``tasks.jsonl``, say."""
    return {int(row["task_index"]): str(row.get("task") or row.get(PANDAS_INDEX) or "") for row in rows}


def number_column(values: Shaped[np.ndarray, "t ..."], dtype: pa.DataType) -> pa.Array:
    """Numbers of a field at t frames as a column of this type."""
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    shape = values.shape[1:]
    if not (pa.types.is_list(dtype) or pa.types.is_fixed_size_list(dtype)):
        return flat.cast(dtype)
    if pa.types.is_fixed_size_list(dtype):
        return pa.FixedSizeListArray.from_arrays(flat, shape[0])
    nested = flat
    for axis in reversed(range(len(shape))):
        ends = np.arange(0, len(nested) + 1, shape[axis], dtype=np.int32)
        nested = pa.ListArray.from_arrays(pa.array(ends), nested)
    return nested


def numbers_of(column: pa.ChunkedArray, shape: tuple[int, ...]) -> Shaped[np.ndarray, "t ..."]:
    """The numbers of a column at t frames; ``ValueError`` unless each has ``shape``."""
    array, frames = column.combine_chunks(), len(column)
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    while isinstance(array, pa.ExtensionArray) or any(is_list(array.type) for is_list in LISTS):
        array = array.storage if isinstance(array, pa.ExtensionArray) else array.flatten()
    numbers = array.to_numpy(zero_copy_only=False)
    if numbers.size != frames * int(np.prod(shape, dtype=np.int64)):
        raise ValueError(f"expected {frames} × {shape} numbers, got {numbers.size}")
    return numbers.reshape(frames, *shape)


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """A JSON object on each line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(strict_json(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The inverse of :func:`write_lines`; ``DatasetError`` names the line that is damaged."""
    rows = []
    for number, line in enumerate(read_file(path).split("\n"), 1):  # other ends of lines may stand in a text
        if line.strip():
            try:
                rows.append(json.loads(line))
            except ValueError as error:
                raise DatasetError(f"{path}, line {number} is corrupt: {error}") from error
    return rows


def read_file(path: Path) -> str:
    """A text file of the dataset; ``DatasetError`` where there is none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """A Parquet file, or some columns of it; ``DatasetError`` for one that is damaged, or was never finished."""
    try:
        return pq.ParquetFile(path).read(columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path} cannot be read: {error}") from error
