"""JSON with its own hash: any byte that differs is told, by the quick look as by the whole one."""

from __future__ import annotations

import json

import pytest

from mambabench import selfhash
from mambabench.selfhash import FIELD, HashMismatchError, hashed_json, parse_hashed

BODY = {"a": [1, 2.5, None], "name": "é\n  x", "path": "own_sha256", "z": {"b": True, "c": []}}
BODIES = [BODY, {"a": 1}, {"z": 1}, {}, {"o": {FIELD: "x", "deep": [[1], [2]]}, "p": 1e-300}]


@pytest.mark.parametrize("body", BODIES)
def test_what_was_written_is_read(body):
    data = hashed_json(body)
    found = parse_hashed(data)
    assert found.pop(FIELD)
    assert found == body


def test_most_files_need_the_quick_look_only(monkeypatch):
    data = hashed_json(BODY)
    monkeypatch.setattr(selfhash, "hashed_json", None)
    parse_hashed(data)


@pytest.mark.parametrize("body", BODIES)
def test_every_byte_counts(body):
    data = hashed_json(body)
    for place in range(len(data)):
        for other in (b"", b" ", b"0", b"\n", bytes([data[place]]) * 2):
            changed = data[:place] + other + data[place + 1 :]
            if changed != data:
                with pytest.raises((ValueError, KeyError)):
                    parse_hashed(changed)


def test_order_and_repeated_keys_count():
    data = hashed_json(BODY)
    begin = data.index(b'\n  "own_sha256"')
    end = data.index(b"\n", begin + 1)
    line, rest = data[begin:end], data[:begin] + data[end:]
    for place in (rest.index(b"\n"), rest.index(b'\n  "z"')):
        with pytest.raises(HashMismatchError):
            parse_hashed(rest[:place] + line + rest[place:])
    with pytest.raises(HashMismatchError):
        parse_hashed(data[:end] + line + data[end:])
    turned = dict(reversed(json.loads(data).items()))
    with pytest.raises(HashMismatchError):
        parse_hashed(json.dumps(turned, indent=2, ensure_ascii=False).encode() + b"\n")
