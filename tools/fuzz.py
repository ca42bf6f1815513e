"""Look for bytes that break a protocol, with atheris, which follows the code that they reach.

    uv sync --group fuzz
    python tools/fuzz.py requests|answers|endings [FOLDER_OF_RECORDINGS] [-max_total_time=300]

It goes over every protocol in the registry, starts from the recordings where there are some, and stops at what it
finds: an exception that escapes, something that does not hold (tools/fuzz_targets.py says what), 2 GB, or ten seconds.
The bytes are then in a file `crash-...`, `oom-...` or `timeout-...`, which the same command runs again when named.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["govmiddleware.protocols", "govmiddleware.core"]):
    import fuzz_targets
    from govmiddleware.protocols.registry import PROTOCOLS

from fuzz_inputs import Choices, cut, hostile, recordings, words

LONGEST = 20_000
"""Bytes of a recording to start from."""

RECORDED: list[bytes] = []
READERS = list(fuzz_targets.kinds_of_readers())


def requests(choices: Choices) -> None:
    protocol, path = choices.of(PROTOCOLS), choices.of(fuzz_targets.PATHS)
    fuzz_targets.read_request(protocol, _bytes(choices), path)


def answers(choices: Choices) -> None:
    (protocol, keywords), places = choices.of(READERS), Choices(choices.take(32))
    raw = _bytes(choices)
    in_pieces = fuzz_targets.read_answer(protocol, cut(places, raw), **keywords)
    assert in_pieces == fuzz_targets.read_answer(protocol, [raw], **keywords)


def endings(choices: Choices) -> None:
    protocol, places = choices.of(PROTOCOLS), Choices(choices.take(32))
    *begun, _ = cut(places, _bytes(choices))
    fuzz_targets.end_stream(protocol, begun)


TARGETS: dict[str, tuple[Callable[[Choices], None], int, int]] = {
    "requests": (requests, len(PROTOCOLS), 1),
    "answers": (answers, len(READERS), 32),
    "endings": (endings, len(PROTOCOLS), 32),
}
"""What is run, how many things it chooses from first, and how many bytes it takes before those that are read."""


def _bytes(choices: Choices) -> bytes:
    return choices.rest() if choices.below(2) else hostile(choices, RECORDED)


def _seeds(into: Path, firsts: int, skipped: int) -> None:
    """One file a recording, each for another protocol in turn."""
    for number, raw in enumerate(RECORDED):
        (into / str(number)).write_bytes(bytes([number % firsts, *[0] * skipped, 1]) + raw)


def main() -> None:
    name, *rest = sys.argv[1:]
    run, firsts, skipped = TARGETS[name]
    folders = [Path(each) for each in rest if Path(each).is_dir()]
    for folder in folders:
        RECORDED.extend(recordings(folder, longest=LONGEST))
    with tempfile.TemporaryDirectory() as corpus, tempfile.NamedTemporaryFile() as dictionary:
        _seeds(Path(corpus), firsts, skipped)
        dictionary.write(b"\n".join(b'"' + word.replace(b'"', b'\\"') + b'"' for word in words()))
        dictionary.flush()
        options = [each for each in rest if Path(each) not in folders]
        given = [f"-dict={dictionary.name}", "-timeout=10", f"-max_len={LONGEST + 50}", *options]
        if not any(Path(each).is_file() for each in options):
            given.append(corpus)
        atheris.Setup([sys.argv[0], *given], lambda data: run(Choices(data)))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
