"""Pack tiktoken's vocabularies (MIT, OpenAI) into src/govmiddleware/data/*.vocabulary.

    pip download --no-deps litellm -d DIR
    python tools/compile_vocabularies.py DIR/litellm-*.whl

The LiteLLM wheel carries them under the SHA-1 of the address that tiktoken would load them from. They are
checked against the SHA-256 that tiktoken_ext/openai_public.py expects. The form of the files is described
in src/govmiddleware/core/reference_counter.py, which reads them.
"""

from __future__ import annotations

import base64
import hashlib
import sys
import zipfile
import zlib
from pathlib import Path

DATA = Path(__file__).parent.parent / "src/govmiddleware/data"
FOLDER = "litellm/litellm_core_utils/tokenizers/"
ADDRESS = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
EXPECTED = {
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
}


def pack(source: bytes) -> bytes:
    """Raises ValueError where ranks have gaps or a token is too long for its length's byte."""
    tokens: list[bytes] = []
    for line in source.splitlines():
        token, rank = line.split()
        if int(rank) != len(tokens):
            raise ValueError(f"rank {rank.decode()} follows {len(tokens) - 1}")
        tokens.append(base64.b64decode(token))
    raw = len(tokens).to_bytes(4, "big") + bytes(map(len, tokens)) + b"".join(tokens)
    return zlib.compress(raw, 9)


def main() -> None:
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        for name, expected in EXPECTED.items():
            source = wheel.read(FOLDER + hashlib.sha1(ADDRESS.format(name).encode()).hexdigest())
            if hashlib.sha256(source).hexdigest() != expected:
                raise SystemExit(f"{name} is not what tiktoken expects")
            target = DATA / f"{name}.vocabulary"
            target.write_bytes(pack(source))
            print(f"{target}: {target.stat().st_size} bytes")


if __name__ == "__main__":
    main()
