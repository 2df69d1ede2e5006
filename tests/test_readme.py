"""The commands of README.md and of docs/ are typed as they stand, in one shell, in a fresh clone.

They are typed in the order of BLOCKS. What cannot be typed as written is there too, with what is
typed instead or why it is not. A block that is in no row fails the tests, and so does a row without
a block. A block that stands on two pages is typed once.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support import targets
from support.clones import ROOT, clone, ours, run, with_uv
from support.environments import install, uv

from tap_vitess.config import Config
from tap_vitess.doctor import plan
from tap_vitess.doctor.split import settings_of, split
from tap_vitess.records.records import Tally
from tap_vitess.run.progress import Progress, details, ending, headline, summary

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
MOST_LINES = 150  # of README.md
SECONDS = 400


@dataclass(frozen=True)
class Typed:
    """Typed into the shell."""

    instead: Mapping[str, str] = field(default_factory=dict)  # what a page says: what is typed
    then: str = ":"  # typed after it, for the tests


@dataclass(frozen=True)
class Shown:
    """Compared with what programs print, by a test below."""

    test: str


@dataclass(frozen=True)
class Left:
    """Not run by these tests."""

    reason: str


# The sandbox's ports are free ones here; a reader has the default ones.
PORTS = '"host": "127.0.0.1", "grpc_port": GRPC_PORT, "mysql_port": MYSQL_PORT'
WARNED = "|| [ $? = 3 ]"  # what the doctor ends with when there are warnings
# How each block begins, and what becomes of it.
BLOCKS: Mapping[str, Typed | Shown | Left] = {
    "$ make demo": Shown("test_the_demo"),
    "pip install '.[sandbox]'": Typed(),
    "tap-vitess-sandbox --live-writes 5 &": Typed(
        {
            "tap-vitess-sandbox --live-writes 5 &": "sandbox --live-writes 5 & await ready",
            '"host": "127.0.0.1"': f'{PORTS}, "user": "etl", "password": "..."',
        }
    ),
    'echo \'{"host": "vtgate.example.com", ': Typed(
        {
            '"host": "vtgate.example.com", "grpc_port": 15991': PORTS,
            "--config config.json": f"--config config.json {WARNED}",
        }
    ),
    "cat > config.json <<'END'": Typed(
        {
            '"host": "vtgate.example.com"': PORTS,
            "commerce.*": "shop.*",
            '"*.audit_log"': "",  # the sandbox has none, of which the doctor warns
            "--config config.json": f"--config config.json {WARNED}",
        }
    ),
    "docker run --rm -p 33575:33575": Left("needs Docker"),
    "export TAP_VITESS_GRPC_HEADERS=": Typed(
        {
            "TAP_VITESS_TLS=true": "TAP_VITESS_TLS=false",
            "TAP_VITESS_HOST=...": "TAP_VITESS_HOST=127.0.0.1",
            "TAP_VITESS_GRPC_PORT=443": "TAP_VITESS_GRPC_PORT=GRPC_PORT",
            "TAP_VITESS_MYSQL_PORT=3306": "TAP_VITESS_MYSQL_PORT=MYSQL_PORT",
            "--config ENV": f"--config ENV {WARNED}",
        },
        then="printenv TAP_VITESS_GRPC_HEADERS > seen/headers",
    ),
    "tap-vitess-doctor --config config.json    # with": Typed(
        {"config.json ": f"config.json > seen/doctor {WARNED}"}
    ),
    "ok       shop/-80 ": Shown("test_the_doctor"),
    "python3 -m venv target": Typed(
        # Many tests use it, and it is kept from run to run.
        {"python3 -m venv target && target/bin/pip install target-jsonl": "ln -s TARGET target"},
        then="mv shop-*.jsonl state.json states.jsonl seen",
    ),
    "pip install '.[dlt-duckdb]'": Typed({"pip install": "UV pip install -q"}),  # it is large
    'python -c "import duckdb': Typed(),
    '{\n  "host": "vtgate': Left("no command, but a config"),
    '{"host": "vtgate.example.com", "user": "etl", "password": "...", "tables"': Left(
        "no command, but a config"
    ),
    "# meltano.yml": Left("no command; test_meltano.py runs a project much like it"),
    "$ tap-vitess-sandbox &": Left("Meltano's commands are run by test_meltano.py"),
    "$ meltano invoke": Left("Meltano's commands are run by test_meltano.py"),
    "meltano add tap-vitess": Left("Meltano's commands are run by test_meltano.py"),
    "shop: 4 tables on 2 shards": Shown("test_the_plan"),
    "    - name: tap-vitess-part": Left("test_meltano.py runs a project with it"),
    "TAP_VITESS_RESYNC_TABLES=": Left("test_resync_tables.py runs with this setting"),
    "source-vitess spec": Typed(
        {
            "--catalog configured_catalog.json [--state state.json]": "--help",
        },
        then="source-vitess check --config config.json > seen/check",
    ),
    "plugins:": Left("no command; test_meltano.py's test_batches_into_postgres uses it"),
    '{"batch_config"': Left("no command, but a config"),
    '{"orders": [': Left("no command; test_splitting.py reads such a file"),
    '{"orders": {"tables"': Left("no command; test_key_range_jobs.py reads such a file"),
    "*/5 * * * *": Left("no command, but a line of a crontab"),
    "pip install dagster": Left("test_splitting.py runs Dagster"),
    " VTGate, MySQL port": Left("a picture"),
    "metadata:": Left("no command, but a part of meltano.yml"),
    "shop.orders: copying": Shown("test_progress"),
    '# config.json has "mirror_keyspace"': Typed(
        {
            '# config.json has "mirror_keyspace": "main", "mirror_name": "shop-to-warehouse"': (
                'configure \'{"mirror_keyspace": "ref", "mirror_name": "shop-to-warehouse"}\''
            ),
            "ddl --config config.json": "ddl --config config.json --run",
            "target-x": "target/bin/target-jsonl",
        }
    ),
    "make test": Left("it runs this test"),
    "tap-vitess-sandbox --rows 10000": Typed({"tap-vitess-sandbox": "try_sandbox"}),
}

# What is typed before: the shell of somebody who has made and entered a virtual environment.
SHELL = """
set -euo pipefail
trap 'kill $(jobs -p)' EXIT
sandbox() {
    exec tap-vitess-sandbox --grpc-port GRPC_PORT --mysql-port MYSQL_PORT \\
        --user etl --password ... --ready-file ready "$@"
}
await() {
    until [ -s "$1" ]; do kill -0 $!; sleep 0.1; done
}
try_sandbox() {
    sandbox --grpc-port 0 --mysql-port 0 --ready-file tried "$@" &
    await tried
    kill $!
    wait $!
}
configure() {
    python -c 'import json, sys
with open("config.json", "r+") as file:
    config = {**json.load(file), **json.loads(sys.argv[1])}
    file.seek(0)
    json.dump(config, file)' "$1"
}
USERNAME=etl PASSWORD=...
mkdir seen
PYTHON -m venv venv
. venv/bin/activate
"""


def fenced() -> list[str]:
    """List what the pages have between their fences, but for the library's Python."""
    found = [
        text
        for page in PAGES
        for language, text in re.findall(
            r"^```(\w*)\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
        )
        if language != "python"  # test_library_docs.py and test_load.py run it
    ]
    return list(dict.fromkeys(found))


def block(start: str) -> str:
    [found] = [text for text in fenced() if text.startswith(start)]
    return found


def free_ports() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("", 0)) as other:
        yield from (one.getsockname()[1], other.getsockname()[1])


def typed(start: str, plan: Typed) -> str:
    text = block(start)
    for written, instead in plan.instead.items():
        assert written in text, f"the block no longer says {written!r}:\n{text}"
        text = text.replace(written, instead)
    return text + plan.then + "\n"


def test_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


def test_every_block_has_a_plan() -> None:
    """And every plan a block; so none is forgotten."""
    plans = {text: [start for start in BLOCKS if text.startswith(start)] for text in fenced()}
    assert [text for text, starts in plans.items() if len(starts) != 1] == []
    assert Counter(start for starts in plans.values() for start in starts) == Counter(list(BLOCKS))
    shown = {plan.test for plan in BLOCKS.values() if isinstance(plan, Shown)}
    assert shown <= globals().keys()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clone the project."""
    return clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def seen(home: Path) -> Path:
    """Type all that the pages say; return the folder with what is looked at afterwards."""
    plans = [(start, plan) for start, plan in BLOCKS.items() if isinstance(plan, Typed)]
    script = SHELL + "".join(f"echo; set -v\n{typed(*plan)}set +v\n" for plan in plans)
    grpc_port, mysql_port = free_ports()
    words = {
        "GRPC_PORT": grpc_port,
        "MYSQL_PORT": mysql_port,
        "TARGET": install(targets.JSONL).parent,
        "PYTHON": sys.executable,
        "UV": uv(),
    }
    for name, value in words.items():
        script = re.sub(rf"(?<!_)\b{name}\b", str(value), script)
    (home / "script").write_text(script)
    done = run(["bash", "script"], home, ours(HOME=str(home)), SECONDS)
    assert done.returncode == 0, done.stdout
    return home / "seen"


@pytest.mark.environments
@pytest.mark.timeout(SECONDS)
def test_a_copy_and_the_changes_since(seen: Path) -> None:
    """What the target has after the two runs: every row once, and the sandbox's changes."""
    paths = [*seen.glob("shop-customers-*.jsonl"), *seen.glob("shop-orders-*.jsonl")]
    records = [(p.name[:9], json.loads(line)) for p in paths for line in p.read_text().splitlines()]
    copied = [(name, r["id"]) for name, r in records if r["_sdc_vitess_op"] == "copy"]
    assert len(copied) > 2000, "of 1000 customers and 2000 orders, less what the sandbox deletes"
    assert len(copied) == len(set(copied))
    assert len(records) > len(copied), "the sandbox wrote, and nothing came"
    assert "vitess:shop" in json.loads((seen / "state.json").read_text())["bookmarks"]


@pytest.mark.environments
@pytest.mark.timeout(SECONDS)
def test_the_headers_of_a_gateway(seen: Path) -> None:
    """What the page's line makes of a user name and a password."""
    headers = json.loads((seen / "headers").read_text())
    credentials = base64.b64encode(b"etl:...").decode()
    assert headers == {"authorization": f"Basic {credentials}"}


@pytest.mark.environments
@pytest.mark.timeout(SECONDS)
def test_airbytes_check(seen: Path) -> None:
    assert '"status":"SUCCEEDED"' in (seen / "check").read_text()


@pytest.mark.environments
@pytest.mark.timeout(SECONDS)
def test_the_doctor(seen: Path) -> None:
    """The page's example is lines of a report."""
    report = (seen / "doctor").read_text()
    assert missing(block("ok       shop/-80 "), report) == [], report


def test_the_plan() -> None:
    """The page's lines are what is told of such sizes."""
    shards, part = ["-80", "80-"], 10**9
    sizes = {"order_items": 20, "customers": 18, "views": 14}
    of_shards = {table: dict.fromkeys(shards, size * part // 2) for table, size in sizes.items()}
    of_shards["orders"] = {"-80": 381 * part, "80-": 379 * part}
    jobs = split(of_shards, shards, 3)
    own = settings_of(jobs, "shop", shards, Config.from_settings({"host": "h"}))
    told = plan.as_text(plan.Plan("shop", shards, jobs, own), 100)
    assert told + "\n" == block("shop: 4 tables on 2 shards")


@pytest.mark.environments
@pytest.mark.timeout(SECONDS)
def test_the_demo(home: Path) -> None:
    """It prints what README shows, with other times; `...` stands for more lines."""
    done = run(["make", "demo"], home, with_uv())
    assert done.returncode == 0, done.stdout
    example = block("$ make demo").removeprefix("$ make demo\n")
    assert missing(example.replace("...\n", "\n"), done.stdout) == []


def missing(example: str, out: str) -> list[str]:
    """List the lines of an example that an output does not have, or not in their order."""
    lines = iter([_timeless(line) for line in out.splitlines()])
    return [line for line in example.splitlines() if line.strip() and _timeless(line) not in lines]


def _timeless(line: str) -> str:
    return re.sub(r"\d\d:\d\d:\d\d|\d+\.\d s", "TIME", line)


def test_missing() -> None:
    """It is no test that all passes."""
    assert missing("b\n\n3 in 1.5 s", "a\nb\n3 in 1.6 s\n") == []
    assert missing("b\na", "a\nb") == ["a"]
    assert missing("4 in 1.5 s", "3 in 1.6 s") == ["4 in 1.5 s"]


def test_progress() -> None:
    """The page's lines are what these numbers are told as."""
    lines = block("shop.orders: copying").splitlines()
    copying = Progress("shop", "copying", 205_000, 41_190, "orders", 205_000, 1_400_000)
    streaming = Progress("shop", "streaming", 1_400_412, 8_020, behind={"-80": 7, "80-": 1_204})
    assert lines[:2] == [f"{headline(p)}, {details(p)}" for p in (copying, streaming)]
    tally = Tally()
    tally.add({"copy": 1_400_000}, 0)
    tally.add({"update": 380, "delete": 32}, 41.3)
    usual: dict[str, Any] = {"full_table": False, "copied": True, "stopped": False}
    assert lines[2] == summary("shop-orders", tally, ending(**usual, error=None))
    purged = "shop: the binlogs of shard -80 have been purged: ..."
    assert lines[3] == summary("shop-page_views", Tally(), ending(**usual, error=purged))


@pytest.mark.parametrize(
    "page", [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    """To a file that is there, and to one of its headings."""
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name} has a link to {target}"
        if anchor:
            assert anchor in anchors(path), f"{page.name} has a link to {target}"


def test_links_on_pypi() -> None:
    """They are plain text; one line in pyproject.toml is ready to lead them to a repository."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    hook = tomllib.loads(text)["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]
    [substitution] = hook["substitutions"]
    [line] = re.findall(r"^# (replacement = .+)$", text, re.MULTILINE)
    page = README.read_text(encoding="utf-8")
    shown = re.sub(substitution["pattern"], substitution["replacement"], page)
    assert re.findall(r"\]\((?!https:)", shown) == []
    linked = re.sub(substitution["pattern"], tomllib.loads(line)["replacement"], page)
    assert linked.count("](https:") == page.count("](")
    assert "](https://HOST/OWNER/NAME/blob/v$HFPR_VERSION/docs/singer.md)" in linked


def anchors(page: Path) -> set[str]:
    """Return what the headings of a page are called in a link."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
