"""What the fuzzing of the catalogue's loader has reached is refused again: with its place, soon."""

import json
import re

import pytest
from fuzz_catalogue import CORPUS, SECONDS, refusal

FILES = json.loads(CORPUS.read_text(encoding="utf-8"))


def test_the_corpus_reaches_many_kinds_of_refusal():
    assert len(FILES) > 100


@pytest.mark.parametrize("start", range(0, len(FILES), 50))
def test_a_hostile_file_is_refused_with_its_place(start, tmp_path):
    for text in FILES[start : start + 50]:
        message, seconds = refusal(text, tmp_path)
        assert message is not None, text
        assert re.match(r".*t\.yaml:\d+: .", message), (message, text)
        assert seconds < 5 * SECONDS, text  # a machine under load; the fuzzing itself holds to one second
