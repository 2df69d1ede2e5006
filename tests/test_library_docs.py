"""docs/library.md says what is so: its code runs, the tests that it names are there."""

from __future__ import annotations

import ast
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tap_vitess.vstream as library
from tap_vitess.sandbox.sample import sample_cluster
from tap_vitess.sandbox.server import serve

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE + README, re.DOTALL | re.MULTILINE)
SECONDS = 60.0
# What each block prints in its run against the sandbox, in order.
PRINTS = [
    "copy shop.orders {'id': ",
    "finished 80 orders of ",
    "copy {'id': ",
    "rows older than version",
    "0 rows: nothing was copied",
    "customers None {'id': ",
    "shop.orders ",
    "Batch(items=(Change(keyspace='ref', table='countries'",
    '{"bookmarks":',
    "copy shop.orders {'id': ",
]


def test_there_are_as_many_blocks_as_are_known() -> None:
    assert len(BLOCKS) == len(PRINTS)


@pytest.mark.slow
def test_every_block_of_code_runs(tmp_path: Path) -> None:
    """README's too, as it stands but for the address; SIGTERM ends what would go on for ever."""
    cluster = sample_cluster(40)
    cluster.create_keyspace("main", ["0"])
    with serve(cluster) as sandbox:
        address = f'Vitess("{sandbox.host}", {sandbox.grpc_port}, {sandbox.mysql_port})'
        running = []
        for number, block in enumerate(BLOCKS):
            program = re.sub(r'Vitess\("localhost"[^)]*\)', address, block)
            assert program != block
            folder = tmp_path / str(number)
            folder.mkdir()
            with (folder / "out").open("w") as out, (folder / "log").open("w") as log:
                process = subprocess.Popen(
                    [sys.executable, "-u", "-W", "error", "-c", program],
                    stdout=out,
                    stderr=log,
                    cwd=folder,
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                )
            running.append((process, folder, PRINTS[number], "follow=False" not in block))
        for process, folder, text, endless in running:
            end = time.monotonic() + SECONDS
            while text not in (folder / "out").read_text() and process.poll() is None:
                assert time.monotonic() < end, f"{folder.name}: it did not print {text}"
                time.sleep(0.1)
            if endless and process.poll() is None and "consume(" in BLOCKS[int(folder.name)]:
                process.send_signal(signal.SIGTERM)
            code = process.wait(SECONDS)
            assert code == 0, (folder / "log").read_text()
            assert text in (folder / "out").read_text()


def test_the_first_block_is_ten_lines() -> None:
    assert len([line for line in BLOCKS[0].splitlines() if line.strip()]) <= 10


NAMED = re.findall(r"`((?:cluster/)?test_\w+\.py)::(test_\w+)`", PAGE)


@pytest.mark.parametrize(("file", "name"), sorted(set(NAMED)))
def test_the_tests_named_are_there(file: str, name: str) -> None:
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_each_feature_is_here_and_has_a_test() -> None:
    """No line of the table says that one is not."""
    table = PAGE.partition("| shown by |\n")[2].partition("\n\n")[0].splitlines()[1:]
    assert len(table) > 25
    for line in table:
        _, feature, _, here, shown, _ = line.split("|")
        assert re.findall(r"`((?:cluster/)?test_\w+\.py)::(test_\w+)`", shown), feature
        assert here.strip().partition(" ")[0].rstrip(",;") not in {"", "no", "none"}, feature


def test_the_page_tells_of_every_function_and_class() -> None:
    """Of errors, those that are told apart."""
    names = re.findall(r" as (\w+)$", Path(library.__file__).read_text(), re.MULTILINE)
    names = [name for name in names if not name.endswith("Error")]
    own = {"Event", "Column", "GtidSet", "Vgtid", "Consumed"}  # what others consist of
    assert [
        n for n in names if f"`{n}" not in PAGE and n not in own and n not in "".join(BLOCKS)
    ] == []


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
    examples = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert examples == set(re.findall(r"\(\.\./examples/(\w+\.py)\)", PAGE))
