#!/usr/bin/env bash
# Fetches the jars with which Spark reads and writes Delta tables (once, 15 MB) and prints their folder. Needs Maven.
#
#   spark.sh jars
#
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
[[ ${1:-} == jars ]] || { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }
# Another pom is another folder: a version bump never mixes jars.
jars=$CACHE/delta-jars-$(sha256sum <"$HERE/pom.xml" | head -c 12)

if [[ ! -d $jars ]]; then
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.delta-jars.lock"
  flock 9
  if [[ ! -d $jars ]]; then
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    # The rest is in Spark.
    timeout 900 mvn -B -q -f "$HERE/pom.xml" dependency:copy-dependencies -DincludeScope=runtime \
      -DincludeGroupIds=io.delta,io.unitycatalog -DoutputDirectory="$partial" >&2
    mv "$partial" "$jars"
  fi
fi
echo "$jars"
