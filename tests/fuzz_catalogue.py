"""`python tests/fuzz_catalogue.py [--minutes 10]`: hostile catalogue files, made by mutation of the catalogue's own.

Each must load or be refused by a `CatalogueError` that names file and line, in under a second and 200 MB. One file for each
kind of refusal that was reached goes to `tests/corpus_catalogue.json`, which `test_fuzz_catalogue.py` replays.
"""

import argparse
import json
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from pathlib import Path

from harness.catalogue import CatalogueError
from harness.catalogue.load import load_file

HERE = Path(__file__).parent
CORPUS = HERE / "corpus_catalogue.json"
SECONDS, MEMORY = 1.0, 200 << 20
#: Files of the corpus: the shortest.
KEPT = 250
#: What replaces a value: numbers at the edges of every type, markup, escapes, paths, YAML's own traps.
VALUES = [
    "0", "-1", "1", "2", "7", "2147483648", "9223372036854775807", "-9223372036854775809", "1e308", "1e309", "-0", "1" * 400,
    ".nan", ".inf", "NaN", "null", "~", "true", "no", "0x10", "010", "3:4", "1_000", "''", '""', "'7'", "[]", "{}", "[[]]",
    "[1, 2]", "[[1, 1], [1, 1]]", "{low: 1}", "[{a: 1}]", "&a [*a]", "*a", "!!python/object/apply:os.system ['true']",
    "!!binary YQ==", "<script>alert(1)</script>", "../../etc/passwd", "a/b", "a\\\\b", '"\\e[31mred\\e[0m"', '"\\0"',
    '"\\u202e"', "\u202e", "é" * 50, "conv", "conv_transpose", "max_pool", "avg_pool", "circular", "reflect", "zeros",
    "same_lower", "same_upper", "f16", "i8", "f64", "|\n   text\n   more", "?", "- - - -", "? [a]\n: b", "%YAML 1.2", "---",
    "...", "\t", "#", "@", "`", "<<: *a", "x" * 5000,
]  # fmt: skip
KEYS = [
    "id", "op", "in_size", "kernel_size", "in_channels", "out_channels", "stride", "padding", "padding_mode", "dilation",
    "groups", "output_padding", "bias", "flip", "ceil_mode", "count_include_pad", "in_dtype", "acc_dtype", "out_dtype",
    "batch", "why", "source", "tags", "suite", "grid", "except", "refused", "literal", "matrix", "photo", "crop_of", "x", "w",
    "b", "y", "file", "family", "cases", "defaults", "<<", "__class__", "spec",
]  # fmt: skip
_KEY = re.compile(r"([A-Za-z_]+)(:)")
_VALUE = re.compile(r"(: )([^\n{}\[\]]+)")


def seeds():
    """Small pieces of the catalogue: the header of each file with one to three of its entries."""
    found = []
    for path in sorted((HERE.parent / "cases").glob("*.yaml")):
        head, *entries = re.split(r"(?m)^(?=  - )", path.read_text(encoding="utf-8"))
        found += [head + "".join(entries[i : i + 1 + i % 3]) for i in range(0, len(entries), 2)]
    return [s for s in found if len(s) < 6000]


def mutated(text, rng, pool):
    """`text` after one to six changes."""
    for _ in range(rng.randint(1, 6)):
        text = rng.choice(CHANGES)(text, rng, pool)
        if len(text) > 50_000:
            break
    return text


def value_replaced(text, rng, pool):
    spots = list(_VALUE.finditer(text))
    if not spots:
        return text
    m = rng.choice(spots)
    return text[: m.start(2)] + rng.choice(VALUES) + text[m.end(2) :]


def key_replaced(text, rng, pool):
    spots = list(_KEY.finditer(text))
    if not spots:
        return text
    m = rng.choice(spots)
    return text[: m.start(1)] + rng.choice(KEYS) + text[m.end(1) :]


def line_moved(text, rng, pool):
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    rng.choice([lambda: lines.insert(j, lines[i]), lambda: lines.pop(i), lambda: lines.insert(j, lines.pop(i - 1))])()
    return "\n".join(lines)


def line_added(text, rng, pool):
    lines = text.split("\n")
    lines.insert(rng.randrange(len(lines) + 1), " " * rng.choice([0, 2, 4, 6]) + f"{rng.choice(KEYS)}: {rng.choice(VALUES)}")
    return "\n".join(lines)


def number_changed(text, rng, pool):
    spots = list(re.finditer(r"-?\d+", text))
    if not spots:
        return text
    m = rng.choice(spots)
    new = rng.choice([str(int(m[0]) + rng.randint(-3, 3)), rng.choice(VALUES[:20]), f"-{m[0]}", f"{m[0]}.5"])
    return text[: m.start()] + new + text[m.end() :]


def bytes_changed(text, rng, pool):
    i = rng.randrange(len(text) + 1)
    return (
        text[:i]
        + rng.choice(["", "[", "]", "{", "}", ":", "-", ",", "\n", "\t", "\x00", "\x1b", "\ufffe", "&", "*", "!"])
        + text[i + 1 :]
    )


def spliced(text, rng, pool):
    other = rng.choice(pool)
    return text[: rng.randrange(len(text) + 1)] + other[rng.randrange(len(other) + 1) :]


def nested(text, rng, pool):
    i, deep = rng.randrange(len(text) + 1), rng.choice([3, 17, 500])
    return text[:i] + "[" * deep + "1" + "]" * deep + text[i:]


CHANGES = (
    [value_replaced] * 5 + [number_changed] * 4 + [key_replaced] * 2 + [line_moved, line_added, bytes_changed, spliced, nested]
)


def refusal(text, folder):
    """(message or None, seconds) of loading `text`."""
    path = Path(folder, "t.yaml")
    path.write_text(text, encoding="utf-8", errors="surrogatepass", newline="")
    start = time.perf_counter()
    try:
        load_file(path)
    except CatalogueError as error:
        return str(error), time.perf_counter() - start
    return None, time.perf_counter() - start


def kind(message):
    """What a message says, without the names and numbers in it."""
    return re.sub(r"'[^']*'|\"[^\"]*\"|-?\d[\d.e+]*|\[.*\]|\(.*\)", "_", message.partition(": ")[2])[:80]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    rng, pool = random.Random(given.seed), seeds()
    reached, count, loaded, slowest, faults = {}, 0, 0, 0.0, []
    end = time.monotonic() + 60 * given.minutes
    with tempfile.TemporaryDirectory() as folder:
        while time.monotonic() < end:
            text = mutated(rng.choice(pool), rng, pool)
            count += 1
            try:
                message, seconds = refusal(text, folder)
            except Exception:
                faults.append((text, traceback.format_exc(limit=-3)))
                continue
            slowest = max(slowest, seconds)
            if message is None:
                loaded += 1
            elif not re.match(r".*t\.yaml:\d+: .", message):
                faults.append((text, f"no place: {message}"))
            elif len(text) < len(reached.get(kind(message), "x" * 1500)):
                reached[kind(message)] = text
            if seconds > SECONDS:
                faults.append((text, f"took {seconds:.2f} s"))
    print(f"{count} files in {given.minutes:g} min: {loaded} load, {len(reached)} kinds of refusal; slowest {slowest:.3f} s")
    print(f"tracebacks, slow or placeless refusals: {len(faults)}")
    for text, what in faults[:5]:
        print(what, repr(text[:600]), sep="\n")
    shortest = sorted(reached.values(), key=len)[:KEPT]
    CORPUS.write_text(json.dumps(shortest, indent=0, ensure_ascii=True) + "\n", encoding="utf-8")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
