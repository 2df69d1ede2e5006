"""A real client: PyAirbyte runs the executable, offline, and stores in DuckDB what it reads.

It is installed into an environment of its own, once. It drops GLOBAL states, so what is shown here
is one sync; `test_airbyte.py` runs the executable with the states it has given.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.environments import install
from support.taps import expected, settings

from tap_vitess.sandbox.cluster import Cluster
from tap_vitess.sandbox.schema import Column, Table
from tap_vitess.sandbox.server import serve

pytestmark = pytest.mark.environments

PYAIRBYTE = ("airbyte==0.71.3",)
SECONDS = 240  # its imports alone take 10 s of a free core

_SYNC = """
import json, sys
from pathlib import Path
import airbyte
from airbyte.caches import DuckDBCache
program, config, folder = sys.argv[1:]
source = airbyte.get_source(
    "source-vitess", local_executable=Path(program), config=json.loads(config)
)
source.check()
source.select_all_streams()
cache = DuckDBCache(db_path=Path(folder) / "cache.duckdb", cache_dir=Path(folder))
result = source.read(cache=cache)
found = {
    name: [dict(row) for row in result[name]] for name in source.get_available_streams()
}
Path(folder, "found.json").write_text(json.dumps(found, default=str))
"""


@pytest.mark.timeout(SECONDS + 100)
def test_pyairbyte_reads_all(tmp_path: Path) -> None:
    """It takes spec, check and catalog, and its tables hold what the source has."""
    try:
        python = install(PYAIRBYTE) / "python"
    except subprocess.CalledProcessError as error:
        pytest.skip(f"PyAirbyte cannot be installed here, so it has not been tried: {error}")
    cluster = Cluster()
    cluster.create_keyspace("shop", ["-80", "80-"])
    columns = (Column("id", "int", nullable=False), Column("text", "varchar(40)"))
    cluster.create_table("shop", Table("item", columns, primary_key=("id",)))
    rows = [{"id": b"%d" % i, "text": "é'\"\n".encode() if i % 2 else None} for i in range(50)]
    cluster.insert("shop", "item", rows)
    offline = {"AIRBYTE_OFFLINE_MODE": "1", "DO_NOT_TRACK": "1", "HOME": str(tmp_path)}
    with serve(cluster) as sandbox:
        program = Path(sys.executable).with_name("source-vitess")
        done = subprocess.run(
            [python, "-c", _SYNC, program, json.dumps(settings(sandbox)), tmp_path],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
            env={**os.environ, **offline},
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        found = json.loads((tmp_path / "found.json").read_text())
        assert list(found) == ["item"]
        stored = [{"id": row["id"], "text": row["text"]} for row in found["item"]]
        assert sorted(stored, key=json.dumps) == expected(cluster, "shop", "item")
        assert all(row["_ab_cdc_cursor"] for row in found["item"])
