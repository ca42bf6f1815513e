#!/usr/bin/env bash
# Write the hash-pinned requirements that CI and the image install from. They name no registry.
set -euo pipefail
cd "$(dirname "$0")/.."
uv lock --quiet "$@"
export_to() { uv export --quiet --locked --format requirements.txt --no-emit-project --no-header --no-annotate "${@:2}" > "requirements/$1.txt"; }
export_to runtime --all-extras --no-dev
export_to dev --all-extras --all-groups
# LiteLLM's proxy, with us in one process: not what our tests need, whose openai SDK LiteLLM does not take.
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@" \
  --extra all --output-file requirements/litellm.txt requirements/litellm.in pyproject.toml
# What the image is built with.
uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate "$@" \
  --output-file requirements/build.txt requirements/build.in
