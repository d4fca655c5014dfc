"""Settings: the nearest file counts, every mistake is told with its place and the way out."""

from pathlib import Path

import pytest

from harness.cli.settings import Settings, SettingsError, load_settings
from harness.cli.units import format_bytes, parse_bytes, parse_seconds


def write(folder: Path, text: str, name: str = "convproof.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def test_without_a_file_the_defaults_hold(tmp_path):
    assert load_settings(tmp_path) == Settings()
    assert Settings().suite == ("gate",)
    assert (Settings().threads, Settings().timeout, Settings().memory, Settings().give_up_after) == (2, 30.0, 2 << 30, 3)


def test_every_key_is_read_and_paths_are_relative_to_the_file(tmp_path):
    text = """
        suite = "smoke"
        seed = 7
        store = "runs/a.sqlite"
        backends = ["naive", "src/mine.py:backend", "pkg.mod:b"]
        require = ["naive"]
        jobs = 3
        threads = 1
        timeout = "2m"
        memory = "512MiB"
        cases = ["a.yaml", "more"]
        give_up_after = 5
    """
    found = load_settings(write(tmp_path, text))
    assert found == Settings(
        suite=("smoke",), seed=7, store=tmp_path / "runs/a.sqlite",
        backends=("naive", f"{tmp_path}/src/mine.py:backend", "pkg.mod:b"), require=("naive",),
        jobs=3, threads=1, timeout=120.0, memory=512 * 2**20, cases=(tmp_path / "a.yaml", tmp_path / "more"),
        give_up_after=5, source=tmp_path / "convproof.toml",
    )  # fmt: skip


def test_the_nearest_file_upward_counts_and_no_other(tmp_path):
    write(tmp_path, "seed = 1\njobs = 9\n")
    near = write(tmp_path / "a", "seed = 2\n")
    deep = write(tmp_path / "a/b/c", "[project]\nname = 'x'\n", "pyproject.toml")
    found = load_settings(deep)
    assert found.seed == 2
    assert found.jobs is None
    assert found.source == near / "convproof.toml"


def test_a_table_of_pyproject_is_as_good_as_a_file(tmp_path):
    write(tmp_path, "[tool.other]\nseed = 9\n[tool.convproof]\nseed = 4\n", "pyproject.toml")
    assert load_settings(tmp_path).seed == 4


def test_two_files_of_settings_in_one_folder_are_refused(tmp_path):
    write(tmp_path, "[tool.convproof]\n", "pyproject.toml")
    write(tmp_path, "")
    with pytest.raises(SettingsError, match="both hold settings: keep one"):
        load_settings(tmp_path)


def test_an_unknown_key_is_told_with_file_line_and_the_nearest_key(tmp_path):
    write(tmp_path, "seed = 1\n\ntimout = 3\n")
    with pytest.raises(SettingsError, match=r"convproof\.toml:3: unknown key 'timout': did you mean 'timeout'\?"):
        load_settings(tmp_path)


def test_the_line_is_that_of_our_table_in_pyproject(tmp_path):
    write(tmp_path, "[tool.other]\nthread = 1\n\n[tool.convproof]\nthread = 1\n", "pyproject.toml")
    with pytest.raises(SettingsError, match=r"pyproject\.toml:5: unknown key 'thread': did you mean 'threads'"):
        load_settings(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed = -1", "seed is -1: write an integer of 0 or more"),
        ("seed = true", "seed is True: write an integer"),
        ("seed = 1.0", "seed is 1.0: write an integer"),
        ("jobs = 0", "jobs is 0: write an integer of 1 or more"),
        ("timeout = 0", "timeout is 0: write more than 0"),
        ("timeout = 'soon'", "timeout 'soon' is not a duration: write 30s"),
        ("timeout = inf", "timeout 'inf' is not a duration"),
        ("timeout = nan", "timeout 'nan' is not a duration"),
        ("timeout = []", "timeout is an array: write a number or '30s'"),
        ("memory = '2 parsecs'", "memory '2 parsecs' has the unit 'parsecs': sizes take"),
        ("memory = -1", "memory '-1' is not a size"),
        ("memory = '0.1'", "memory is '0.1': write more than 0"),
        ("suite = [1]", "suite holds 1, an integer: write a string"),
        ("suite = ['']", "suite holds '', a string: write a string that is not empty"),
        ("suite = {a = 1}", "suite is a table: write a string or an array"),
        ("store = 3", "store holds 3, an integer"),
    ],
)
def test_a_value_of_the_wrong_kind_says_what_to_write(tmp_path, text, message):
    write(tmp_path, text)
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path)
    assert f"convproof.toml:1: {message}" in str(caught.value)


@pytest.mark.parametrize("data", [b"seed = \n", b"\xff\xfe", b"seed = 1\nseed = 2\n"])
def test_what_is_not_toml_is_said_to_be_none(tmp_path, data):
    (tmp_path / "convproof.toml").write_bytes(data)
    with pytest.raises(SettingsError, match="is not TOML"):
        load_settings(tmp_path)


def test_a_tool_table_that_is_none_is_refused(tmp_path):
    write(tmp_path, "tool.convproof = 3\n", "pyproject.toml")
    with pytest.raises(SettingsError, match=r"tool\.convproof is an integer: write a table"):
        load_settings(tmp_path)


def test_there_are_two_workers_a_core_up_to_four(monkeypatch):
    for cores, workers in ((1, 2), (2, 4), (3, 4), (64, 4)):
        monkeypatch.setattr("harness.cli.settings.usable_cores", lambda cores=cores: cores)
        assert Settings().workers == workers
    assert Settings(jobs=5).workers == 5


@pytest.mark.parametrize(
    ("text", "seconds"), [("1", 1), ("1s", 1), ("250ms", 0.25), ("1.5m", 90), ("2 min", 120), ("1h", 3600), (".5", 0.5)]
)
def test_durations_are_seconds(text, seconds):
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "1 2", "1e", "1d", chr(0x661) + "s"])
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="duration"):
        parse_seconds(text)


@pytest.mark.parametrize(("text", "count"), [("1", 1), ("1kB", 1000), ("1KiB", 1024), ("1.5 GB", 15 * 10**8), ("2tib", 2**41)])
def test_sizes_are_bytes(text, count):
    assert parse_bytes(text) == count


def test_formatted_bytes_keep_their_magnitude():
    assert [format_bytes(n) for n in (0, 1023, 1024, 2**30, 2**40, 2**50)] == [
        "0 B", "1023 B", "1.0 KiB", "1.0 GiB", "1.0 TiB", "1024.0 TiB",
    ]  # fmt: skip
