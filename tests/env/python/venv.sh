#!/usr/bin/env bash
# Makes the Python environment of the independent readers (once) and prints the path of its interpreter.
#
#   venv.sh [REQUIREMENTS...]     default: requirements.txt beside this script
#
# It lies in ~/.cache/data-platform/python-<hash of the requirements and of the Python version>, so other requirements
# or another Python never meet an old environment. Needs python3 (3.10 or newer) with venv.
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform), PYTHON (python3).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
(($# > 0)) || set -- "$HERE/requirements.txt"
PYTHON=${PYTHON:-python3}
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}

hash=$({ "$PYTHON" -VV; cat "$@"; } | sha256sum | head -c 12)
environment=$CACHE/python-$hash

# The marker is written last: an environment without it was interrupted and is made anew.
if [[ ! -f $environment/.complete ]]; then
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.python.lock"
  flock 9
  if [[ ! -f $environment/.complete ]]; then
    echo "venv.sh: installing the readers' Python packages (once; about 700 MB on disk, 1.8 GB for make soak)" >&2
    rm -rf "$environment"
    "$PYTHON" -m venv "$environment"
    "$environment/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: \
      "${@/#/--requirement=}" >&2
    touch "$environment/.complete"
  fi
fi
echo "$environment/bin/python"
