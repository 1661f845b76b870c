"""All rows of some columns of a table as Arrow: read by Arrow itself on local disk, by Spark elsewhere.

Handing a million rows of vectors from Spark to Python takes several times as long as reading their files.
"""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.dataset as ds
from pyspark.sql import functions as F

from freshet.errors import StateDamaged
from freshet.schema import TABLES
from freshet.store.columns import arrow_schema
from freshet.store.tables import Tables, local_folder

# Without it a flipped byte is a wrong number; with it an error.
_CHECKED = ds.ParquetFragmentScanOptions(page_checksum_verification=True)


def read_files(tables: Tables, name: str, columns: Sequence[str], version: int, above: int | None = None) -> pa.Table:
    """The columns of every row of a table; files without rows of versions from `above` on may be left out.

    Raises StateDamaged when a file is missing, cut or changed.
    """
    frame = tables.read(name)
    if above is not None:
        frame = frame.where(F.col("snapshot_version") >= above)
    if local_folder(tables.root) is None:
        return tables.collect(name, frame.select(*columns), version)
    schema = arrow_schema(name)
    wanted = pa.schema([schema.field(column) for column in columns])
    paths = [unquote(urlparse(file).path) for file in frame.inputFiles()]
    if not paths:
        return wanted.empty_table()
    try:
        source = ds.dataset(paths, schema=wanted, format=ds.ParquetFileFormat(default_fragment_scan_options=_CHECKED))
        return source.to_table(use_threads=True)
    except (OSError, pa.ArrowException) as error:
        raise StateDamaged(
            f"Table {name} cannot be read at version {version}: {error}.",
            remedy="A file of it is missing or changed: restore it, or open an older version (--as-of).",
            table=TABLES[name].name, version=version, cause=str(error),
        ) from error
