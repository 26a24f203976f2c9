"""The commands as users type them: what they print, and how they end."""

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from typer.main import get_command

from tests.projects import listed, make_project, tidemill
from tidemill.access.actors import find_login_name
from tidemill.cli import output
from tidemill.cli.main import NOUNS, command_line


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one release."""
    folder = tmp_path_factory.mktemp("cli")
    tidemill(folder, "init", "shop")
    tidemill(folder / "shop", "run", "training")
    return folder / "shop"


def test_init_shows_what_it_found_and_what_is_next(tmp_path: Path) -> None:
    done = tidemill(tmp_path, "init", "mine")
    assert "classification of 'late'" in done.stdout
    assert "next: cd mine && tidemill run training" in done.stdout


def test_what_is_next_can_be_typed_as_it_stands(tmp_path: Path) -> None:
    assert "next: cd 'mein Körper' &&" in tidemill(tmp_path, "init", "mein Körper").stdout


def test_init_prints_where_the_rows_are_too_few(tmp_path: Path) -> None:
    pl.DataFrame({"größe": [number % 7 for number in range(20)], "y": [0, 1] * 10}).write_csv(tmp_path / "few.csv")
    assert "a training needs 50" in tidemill(tmp_path, "init", "p", "--from", "few.csv", "--label", "y").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("checks", "list", "--check", "gat"), "no records with check 'gat'"),
        (("events", "list", "--kind", "großes"), "no records with kind 'großes'"),
        (("jobs", "list", "--state", "lost"), "no records with state 'lost'"),
        (("runs", "list", "--pipeline", "nope"), "no records with pipeline 'nope'"),
        (("runs", "search", "nowhere"), "no records with text 'nowhere'"),
        (("models", "search", "nowhere"), "no records with text 'nowhere'"),
        (("models", "list", "--name", "nope"), "no records with name 'nope'"),
        (("models", "history", "--name", "nope"), "no release of 'nope' served yet"),
    ],
)
def test_an_empty_list_prints_what_was_asked(shop: Path, words: tuple[str, ...], message: str) -> None:
    assert message in (done := tidemill(shop, *words)).stdout + done.stderr


def bad_tables(folder: Path) -> dict[str, Path]:
    files = {name: folder / f"{name}.csv" for name in ("empty", "header", "one_class", "null_column", "latin", "fine")}
    files["empty"].write_text("")
    files["header"].write_text("a,y\n")
    files["one_class"].write_text("a,y\n1,0\n2,0\n3,0\n")
    files["null_column"].write_text("a,b,y\n" + "".join(f"{n % 7},,{n % 2}\n" for n in range(50)))
    files["latin"].write_bytes(b"a,name,y\n" + b"".join(b"%d,\xfe\xfd,%d\n" % (n, n % 2) for n in range(50)))
    files["fine"].write_text("a,y\n" + "".join(f"{n},{n % 2}\n" for n in range(50)))
    return files


@pytest.mark.parametrize(
    ("table", "label", "message"),
    [
        ("missing", "y", "there is no file"),
        ("empty", "y", "is empty"),
        ("header", "y", "no rows"),
        ("fine", "nope", "no column 'nope'"),
        ("one_class", "y", "only one class"),
        ("latin", "y", "its encoding is uncertain"),
        ("fine", "", "--label"),
    ],
)
def test_a_bad_table_is_one_line_with_a_cure(tmp_path: Path, table: str, label: str, message: str) -> None:
    file = bad_tables(tmp_path).get(table, tmp_path / "missing.csv")
    words = ["init", "p", "--from", str(file), *(["--label", label] if label else [])]
    one_line(tidemill(tmp_path, *words, code=2), message)


def one_line(done: subprocess.CompletedProcess[str], message: str) -> None:
    assert done.stdout == ""
    assert message in done.stderr
    assert " — " in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_column_without_values_is_excluded(tmp_path: Path) -> None:
    file = bad_tables(tmp_path)["null_column"]
    done = tidemill(tmp_path, "init", "p", "--from", str(file), "--label", "y")
    assert "it is null in every row" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "nope"), "defines no pipeline 'nope'"),
        (("run", "training", "--param", "depth=3"), "no parameter 'depth'"),
        (("run", "training", "--param", "depth"), "NAME=VALUE"),
        (("run", "training", "--engine", "ray"), "no engine 'ray'"),
        (("runs", "show", "12345678"), "there is no run"),
        (("models", "show", "shop/99"), "release 'shop/99' does not exist"),
        (("why", "shop/99"), "release 'shop/99' does not exist"),
        (("models", "search", "--metric", "huh"), "'huh' is not a comparison of a metric"),
        (("no-such-command",), "No such command"),
        (("runs", "show"), "Missing argument"),
    ],
)
def test_a_wrong_command_is_one_line_with_a_cure(shop: Path, words: tuple[str, ...], message: str) -> None:
    one_line(tidemill(shop, *words, code=2), message)


def test_outside_a_project_it_prints_how_to_make_one(tmp_path: Path) -> None:
    one_line(tidemill(tmp_path, "run", "training", code=2), "tidemill init")


def test_a_key_that_the_policy_does_not_know_names_its_line(tmp_path: Path) -> None:
    make_project(tmp_path / "shop")
    file = tmp_path / "shop" / "tidemill.toml"
    file.write_text(file.read_text().replace("share = 0.2", "shar = 0.2"))
    done = tidemill(tmp_path / "shop", "run", "training", code=2)
    one_line(done, "unknown field `shar`")
    line = file.read_text().splitlines().index("shar = 0.2") + 1
    assert f"line {line}" in done.stderr


def test_a_port_in_use_is_named(shop: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for verb in ("serve", "up"):
            one_line(tidemill(shop, verb, "--port", str(port), code=2), f"port {port} on 127.0.0.1 is in use")


@pytest.mark.parametrize("place", ["/proc/tidemill", "/dev/null/tidemill"])
def test_a_workspace_that_cannot_be_written_is_named(shop: Path, place: str) -> None:
    one_line(tidemill(shop, "run", "training", code=1, TIDEMILL_WORKSPACE=place), "workspace")


def test_a_read_only_workspace_is_named(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws").chmod(0o555)
    if os.access(tmp_path / "ws", os.W_OK):
        pytest.xfail("this user may write everywhere: the refusal is tested on /proc instead")
    one_line(tidemill(shop, "run", "training", code=1, TIDEMILL_WORKSPACE=str(tmp_path / "ws")), "read-only")


def test_every_noun_is_listed_and_shown_as_json(shop: Path) -> None:
    for noun, name in (("runs", "id"), ("checks", "id"), ("events", "id"), ("models", "name")):
        found = listed(shop, noun, "list")
        assert found, noun
        one = listed(shop, noun, "show", found[0][name])
        assert one
    assert listed(shop, "routes", "list")[0]["arms"][0]["release"] == "shop/1"
    assert [regime["releases"] for regime in listed(shop, "regimes", "list")] == [["shop/1"]]
    assert listed(shop, "regimes", "show", "1")["tenures"][0]["change"] == "first"
    assert "has no regime 2" in tidemill(shop, "regimes", "show", "2", code=2).stderr
    assert (
        "no key names the regimes" in tidemill(shop, "regimes", "bind", "shop/1", "B", "--reason=test", code=2).stderr
    )
    assert "no key names the regimes" in tidemill(shop, "regimes", "unbind", "B", "--reason=test", code=2).stderr
    names = [trigger["name"] for trigger in listed(shop, "triggers", "list")]
    assert names == ["new data", "first model", "watch", "release waits", "worse or different"]


def test_runs_and_models_are_searched_by_text_tag_and_metric(shop: Path) -> None:
    tidemill(shop, "models", "tag", "shop/1", "team=blue")
    assert listed(shop, "models", "search", "--tag", "team=blue")[0]["version"] == 1
    assert listed(shop, "models", "search", "--tag", "team=red") == []
    assert listed(shop, "models", "search", "--metric", "test_log_loss<10")
    assert listed(shop, "models", "search", "--metric", "test_log_loss>10") == []
    assert listed(shop, "runs", "search", "training", "--metric", "test_roc_auc>0.5")
    assert listed(shop, "runs", "search", "no-such-text") == []


def test_a_run_prints_itself_as_json(shop: Path) -> None:
    done = listed(shop, "run", "watching")
    assert (done["pipeline"], done["state"], done["cause"]["by"]) == ("watching", "done", "hand")


def test_why_shows_the_chain_of_a_release(shop: Path) -> None:
    chain = listed(shop, "why", "shop/1")
    assert [link["kind"] for link in chain][:2] == ["release", "route"]
    assert {"run", "verdict", "code", "cause"} <= {link["kind"] for link in chain}


def test_show_draws_the_graph(shop: Path, tmp_path: Path) -> None:
    assert "fit" in tidemill(shop, "show", "training").stdout
    assert listed(shop, "show", "watching")["decide_canary"] == ["judge_challenger"]
    tidemill(shop, "show", "training", "--svg", str(tmp_path / "graph.svg"))
    assert (tmp_path / "graph.svg").read_text().startswith("<svg")


def test_a_table_is_judged_and_accepted(shop: Path, tmp_path: Path) -> None:
    rows = pl.read_csv(shop / "data" / "shop.csv", try_parse_dates=True)
    rows.write_csv(tmp_path / "same.csv")
    rows.rename({"items": "pieces"}).write_csv(tmp_path / "renamed.csv")
    tidemill(shop, "data", "validate", str(tmp_path / "same.csv"))
    refused = tidemill(shop, "data", "validate", str(tmp_path / "renamed.csv"), code=3)
    assert "items: is missing" in refused.stdout
    assert "pieces: is not in the schema" in refused.stdout
    tidemill(shop, "data", "accept", "rows", str(tmp_path / "renamed.csv"), "--reason", "a new till")
    tidemill(shop, "data", "validate", str(tmp_path / "renamed.csv"))
    assert listed(shop, "audit", "list")[0]["reason"] == "a new till"


def test_a_notebooks_model_is_registered_deployed_and_rolled_back(shop: Path, tmp_path: Path) -> None:
    import lightgbm

    rows = pl.read_csv(shop / "data" / "shop.csv", try_parse_dates=True)
    columns = ["distance_km", "items"]
    data = lightgbm.Dataset(rows.select(columns).to_numpy(), rows["late"].cast(int).to_numpy(), feature_name=columns)
    lightgbm.train({"objective": "binary", "verbosity": -1}, data, 10).save_model(tmp_path / "notebook.txt")
    rows.select(columns).head(20).write_csv(tmp_path / "samples.csv")
    words = ("models", "register", str(tmp_path / "notebook.txt"), "--samples", str(tmp_path / "samples.csv"))
    release = listed(shop, *words, "--classes", "false,true")
    label = f"{release['name']}/{release['version']}"
    assert listed(shop, "routes", "list")[0]["arms"][0]["release"] == "shop/1"
    tidemill(shop, "models", "promote", label, "--reason", "it is better")
    assert listed(shop, "routes", "list")[0]["arms"][0]["release"] == label
    tidemill(shop, "models", "rollback", "--reason", "because")
    assert listed(shop, "routes", "list")[0]["arms"][0]["release"] == "shop/1"
    assert [entry["action"] for entry in listed(shop, "audit", "list")][:2] == ["rolled back to", "promoted"]


def test_who_asks_is_the_real_user_and_not_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "somebody-else")
    assert find_login_name() == pwd.getpwuid(os.getuid()).pw_name
    monkeypatch.setattr(os, "getuid", lambda: 2_000_000_021)
    assert find_login_name() == "user 2000000021"


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    message = "[gate] of [[triggers]] in shop:100:1 [/bold]"
    output.print_table(("reason",), [[message]])
    output.out.print(message)
    output.err.print(message, style="yellow")
    reported = capsys.readouterr()
    assert reported.out.count(message) == 2
    assert message in reported.err


def helps(command: Any, path: str = "tidemill") -> Iterator[tuple[str, str]]:
    yield path, command.help or ""
    for one in command.params:
        if not getattr(one, "hidden", False):
            yield f"{path} {one.name}", getattr(one, "help", "") or ""
    for name, under in getattr(command, "commands", {}).items():
        yield from helps(under, f"{path} {name}")


@pytest.mark.parametrize("noun", NOUNS)
def test_a_noun_that_is_loaded_alone_has_all_its_commands(noun: str) -> None:
    """Each in a process of its own: a module that another noun has loaded adds its commands there as well."""
    message = {}
    for words in (f"'{noun}'", ""):
        code = "from typer.main import get_command; from tidemill.cli.main import command_line as c\n"
        code += f"print(sorted(get_command(c({words})).commands['{noun}'].commands))"
        message[words] = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert len(set(message.values())) == 1, message


def test_a_training_that_comes_to_the_same_reports_it(shop: Path) -> None:
    tidemill(shop, "run", "training")
    assert "no new release: the model is equal to shop/" in tidemill(shop, "run", "training").stdout


def test_every_command_and_option_prints_what_it_is_and_loses_no_words_in_brackets() -> None:
    assert [place for place, text in helps(get_command(command_line())) if not text or "[" in text] == []
