#!/usr/bin/env bash
# Helm for the tests: built once from its Go module into ~/.cache/data-platform/helm-<version>. Prints the path of the
# program. Needs Go 1.24 or newer; the build takes about 4 minutes of processor time.
#
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail

VERSION=3.22.0
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
FOLDER=$CACHE/helm-$VERSION

if [[ ! -x $FOLDER/helm ]]; then
  command -v go >/dev/null || { echo "helm.sh: Go is missing (Debian: apt-get install golang)" >&2; exit 1; }
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.helm.lock"
  flock 9
  if [[ ! -x $FOLDER/helm ]]; then
    echo "helm.sh: building Helm $VERSION (about 4 minutes of processor time, once)" >&2
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    trap 'rm -rf "$partial"' EXIT
    # Static and without symbols: 62 MB instead of 110.
    # A registry that is slow to answer once must not cost the run.
    for attempt in 1 2 3; do
      GOGC=${GOGC:-800} CGO_ENABLED=0 GOFLAGS='' GOBIN=$partial go install -trimpath -ldflags "-s -w" \
        "helm.sh/helm/v3/cmd/helm@v$VERSION" >&2 && break
      echo "helm.sh: Helm was not built (attempt $attempt of 3)" >&2
      sleep $((attempt * 5))
    done
    mkdir -p "$FOLDER"
    # The program appears by one rename, so it is whole or not there.
    mv "$partial/helm" "$FOLDER/helm"
  fi
  exec 9>&-
fi
echo "$FOLDER/helm"
