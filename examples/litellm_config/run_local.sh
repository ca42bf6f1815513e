#!/usr/bin/env bash
# The same as docker-compose.yml without containers, on a machine with Python and uv alone: LiteLLM, an embedded store,
# govmiddleware and, where it is installed, Prometheus start on free ports; a small client makes calls; all ends by
# itself. Exit code 0: all was as it should be.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
command -v uv >/dev/null || { echo "uv is missing: see https://docs.astral.sh/uv" >&2; exit 2; }
exec uv run --quiet --no-project --python '>=3.11' python -B "$here/run_local.py"
