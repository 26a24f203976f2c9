"""Plants a secret in each setting that takes `${…}`, uses the project, and searches everything that it wrote."""

import base64
import random
import re
import secrets
import sqlite3
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from urllib.parse import quote

from benchmarks.reliability.service import Service
from benchmarks.reliability.shop import Shop, Yard
from benchmarks.reliability.tally import Tally, report

_STEP = """

import logging, os, sys
from tidemill import pipeline, step


@step
def leak() -> str:
    print("it is", os.environ["SHOP_PASSWORD"])
    print("on stderr", os.environ["SHOP_PASSWORD"], file=sys.stderr)
    logging.getLogger("shop").warning("it is %s", os.environ["SHOP_PASSWORD"])
    return "leaked"


@step
def fail(text: str) -> str:
    raise ValueError(os.environ["SHOP_PASSWORD"])


@pipeline
def leaking() -> None:
    fail(leak())
"""
_POLICY = """
[sources.unreachable]
path = "postgresql+psycopg://reader:${UNREACHABLE}@127.0.0.1:9/shop"
table = "rows"

[signing]
key = "${file:KEY}"
public_key = "models.pub.pem"

[environments.test]
kind = "test"

[environments.test.variables]
FROM_WAREHOUSE = "${INNOCENT}"
"""


def try_plants(yards: Sequence[Yard], tries: int, generator: random.Random) -> list[Tally]:
    """Use projects with planted secrets, and search what they printed, stored and sent."""
    del generator  # secrets must differ from everything else
    tally = Tally("a planted secret")
    searched = 0
    for number in range(tries):
        yard = yards[number % len(yards)]
        with yard.copy() as shop:
            planted = _plant(shop, yard)
            texts = dict(_use(shop, planted))
            searched = max(searched, len(texts))
            for name, secret in planted.items():
                found = sorted({where for where, text in texts.items() if _contains(text, secret)})
                tally.add(name, acknowledged=1, lost=[f"it stands in {_shorten(where)}" for where in found])
    tally.note = f"{searched} files, pages and outputs searched"
    return [tally]


def _plant(shop: Shop, yard: Yard) -> dict[str, str]:
    """Change the project so that each setting refers to a secret; return the secrets by their places."""
    names = ("a path of a source", "a failing source", "an address of an alert", "a variable of an environment")
    planted = {name: f"pl{secrets.token_hex(12)}" for name in (*names, "a variable that a step prints")}
    vault = shop.folder.with_name("vault")
    vault.mkdir(exist_ok=True)
    hook, key = vault / "hook", vault / "models.pem"
    hook.write_text(planted["an address of an alert"])
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key],
        check=True,
        capture_output=True,
    )
    subprocess.run(
        ["openssl", "pkey", "-in", key, "-pubout", "-out", shop.folder / "models.pub.pem"],
        check=True,
        capture_output=True,
    )
    planted["the key that signs"] = key.read_text().splitlines()[1]
    policy = shop.folder / "tidemill.toml"
    text = policy.read_text()
    text = text.replace('path = "data/*.csv"', 'path = "${WAREHOUSE}"\ntable = "rows"')
    text = text.replace('notify = ["log"]', f'notify = ["log", "json://me:${{file:{hook}}}@127.0.0.1:9/"]')
    policy.write_text(text + _POLICY.replace("KEY", str(key)))
    with (shop.folder / "pipeline.py").open("a") as file:
        file.write(_STEP)
    _write_database(shop)
    shop.environment |= {
        "WAREHOUSE": f"sqlite:///{shop.folder}/shop.db?password={planted['a path of a source']}",
        "UNREACHABLE": planted["a failing source"],
        "INNOCENT": planted["a variable of an environment"],
        "SHOP_PASSWORD": planted["a variable that a step prints"],
    }
    if yard.server:
        planted["the URL of the ledger"] = f"pl{secrets.token_hex(12)}"
        url = shop.environment["TIDEMILL_LEDGER"]
        shop.environment["TIDEMILL_LEDGER"] = url.replace("tidemill@", f"tidemill:{planted['the URL of the ledger']}@")
    return planted


def _write_database(shop: Shop) -> None:
    header, *lines = (shop.folder / "data" / "shop.csv").read_text().splitlines()
    names = header.split(",")
    connection = sqlite3.connect(shop.folder / "shop.db")
    with connection:
        connection.execute(f"CREATE TABLE rows ({', '.join(names)})")
        rows = [line.split(",") for line in lines]
        connection.executemany(f"INSERT INTO rows VALUES ({', '.join('?' * len(names))})", rows)
    connection.close()


def _use(shop: Shop, planted: dict[str, str]) -> Iterator[tuple[str, bytes]]:
    """Run commands that read, fail, print and write; yield everything that they left, by where it is."""
    commands = [
        ("run", "ingestion"),
        ("run", "training"),
        ("run", "leaking"),
        ("run", "leaking"),
        ("data", "profile", "rows"),
        ("data", "validate", "unreachable"),
        ("triggers", "pause", "watch", "--reason", "because"),
        ("deploy", "render", "1", "--env", "test"),
        ("audit", "export", "../audit.jsonl"),
        ("evidence", "export", "shop/1", "--to", "../evidence"),
        ("why", "shop/1"),
        ("runs", "list", "--json"),
        ("status",),
        ("backup", "../backup.tar"),
    ]
    for words in commands:
        ended = shop.run(*words)
        yield f"output of `{' '.join(words)}`", ended.text.encode()
    ended = shop.run("tokens", "create", "ada", "--role", "admin")
    token = planted["a token"] = ended.out.split()[0]
    shop.environment["TIDEMILL_TOKEN"] = shop.token = token
    yield "output of `triggers resume`", shop.run("triggers", "resume", "watch", "--reason=test").text.encode()
    service = Service(shop, "up")
    service.predict("planted")
    shop.run("triggers", "fire", "watching")
    yield from _fetch_pages(service, token)
    service.stop()
    yield "the log of `up`", service.child.err.encode()
    for root in (shop.folder, shop.folder.parent / "evidence"):
        for file in (root, *root.rglob("*")):
            if file.is_file() and file.name != "tidemill.toml":
                yield str(file.relative_to(shop.folder.parent)), file.read_bytes()
    for name in ("backup.tar", "audit.jsonl"):
        file = shop.folder.parent / name
        if file.exists():
            yield name, file.read_bytes()


def _fetch_pages(service: Service, token: str) -> Iterator[tuple[str, bytes]]:
    """Yield each page that can be reached from the first one, as HTML and as JSON."""
    found = re.search(r"pages at (http://[\d.]+:\d+)", service.child.err)
    if found is None:
        return
    waiting, seen = ["/"], set[str]()
    while waiting and len(seen) < 150:
        path = waiting.pop(0)
        if path in seen or path.startswith("/logout"):
            continue
        seen.add(path)
        for suffix in ("", "&format=json" if "?" in path else "?format=json"):
            request = urllib.request.Request(found[1] + path + suffix, headers={"Authorization": f"Bearer {token}"})
            try:
                with urllib.request.urlopen(request, timeout=60) as reply:
                    page = reply.read()
            except urllib.error.HTTPError as error:
                page = error.read()
            except OSError as error:
                report(f"  ! page {path}: {error}")
                continue
            yield f"page {path}{suffix}", page
            waiting += re.findall(r'href="(/[^"#]*)"', page.decode(errors="replace"))


def _contains(text: bytes, secret: str) -> bool:
    plain = secret.encode()
    return any(form in text for form in (plain, quote(secret, safe="").encode(), base64.b64encode(plain).rstrip(b"=")))


def _shorten(where: str) -> str:
    return re.sub(r"[0-9a-f-]{20,}", "…", where)
