#!/usr/bin/env bash
# An S3 server for the tests: versitygw (Apache-2.0) over a folder, which checks If-None-Match under a lock. Built once from
# its Go module into ~/.cache/data-platform/versitygw-<version>. Needs Go 1.24 or newer.
#
#   s3.sh build              build it (once) and print the path of the program
#   s3.sh up PORT DIR        start a server that keeps everything in DIR; wait until it answers; print host:port
#   s3.sh down DIR           stop it (SIGTERM) and wait for its end
#   s3.sh kill DIR           kill it (SIGKILL) and wait for its end
#   s3.sh sweep DIR          kill every server whose folder lies below DIR
#
# PORT 0 chooses a free port. Buckets are the folders of DIR/buckets: objects are plain files there. The key is "tester" with
# the secret "tester-secret"; "identity-first" and "identity-second" with the same secret are two more. The region is us-east-1,
# requests in path style. DIR/address says where it is, DIR/s3.log what it
# logged. `up` on a folder that had a server starts it again at its port, with its buckets.
#
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail

# shellcheck source=tests/env/process.sh
source "$(dirname "${BASH_SOURCE[0]}")/../process.sh"

VERSION=1.8.0
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
FOLDER=$CACHE/versitygw-$VERSION
PROGRAM=$FOLDER/versitygw

say() { echo "s3.sh: $*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

build() {
  [[ -x $PROGRAM ]] && return
  command -v go >/dev/null || die "Go is missing (Debian: apt-get install golang)"
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.versitygw.lock"
  flock 9
  if [[ ! -x $PROGRAM ]]; then
    say "building versitygw $VERSION (about 3 minutes of processor time, once)"
    local partial
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    # A registry that is slow to answer once must not cost the run.
    for attempt in 1 2 3; do
      GOGC=${GOGC:-800} CGO_ENABLED=0 GOFLAGS='' GOBIN=$partial go install -trimpath -ldflags "-s -w" \
        "github.com/versity/versitygw/cmd/versitygw@v$VERSION" >&2 && break
      say "it was not built (attempt $attempt of 3)"
      sleep $((attempt * 5))
    done
    [[ -x $partial/versitygw ]] || { rm -rf "$partial"; die "versitygw could not be built"; }
    mkdir -p "$FOLDER"
    # The program appears by one rename, so it is whole or not there.
    mv "$partial/versitygw" "$PROGRAM"
    rm -rf "$partial"
  fi
  exec 9>&-
}

# The pid of the server of folder $1, if it runs.
running() { runs_as "$1/s3.pid" "posix $1/buckets"; }

up() {
  local port=$1 dir pid
  build
  mkdir -p "$2/buckets"
  dir=$(realpath "$2")
  if running "$dir" >/dev/null; then cat "$dir/address"; return; fi
  if [[ -f $dir/address ]]; then
    port=$(sed 's/.*://' "$dir/address")
  elif [[ $port == 0 ]]; then
    port=$(free_ports 1)
  fi
  mkdir -p "$dir/iam"
  local key accounts=''
  for key in identity-first identity-second; do
    accounts+=${accounts:+,}"\"$key\":{\"access\":\"$key\",\"secret\":\"tester-secret\",\"role\":\"admin\"}"
  done
  echo "{\"accessAccounts\":{$accounts}}" >"$dir/iam/users.json"
  ROOT_ACCESS_KEY=tester ROOT_SECRET_KEY=tester-secret setsid "$PROGRAM" --port "127.0.0.1:$port" --region us-east-1 \
    --iam-dir "$dir/iam" posix "$dir/buckets" >>"$dir/s3.log" 2>&1 </dev/null &
  pid=$!
  echo "$pid" >"$dir/s3.pid"
  for _ in $(seq 200); do
    # Without a signature it is refused, and that is an answer.
    if speaks_http "$port"; then
      echo "127.0.0.1:$port" >"$dir/address"
      cat "$dir/address"
      return
    fi
    [[ -d /proc/$pid ]] || break
    sleep 0.05
  done
  tail -n 5 "$dir/s3.log" >&2
  die "the server of $dir does not answer"
}

stop() {
  local dir pid
  dir=$(realpath "$1" 2>/dev/null) || return 0
  pid=$(running "$dir") || return 0
  kill "-$2" "$pid" 2>/dev/null || true
  await_end "$pid" || kill -KILL "$pid" 2>/dev/null || true
}

sweep() {
  local file
  [[ -d $1 ]] || return 0
  while IFS= read -r file; do stop "$(dirname "$file")" KILL; done < <(find "$1" -maxdepth 4 -name s3.pid 2>/dev/null)
}

case ${1:-} in
  build) build; echo "$PROGRAM" ;;
  up) (($# == 3)) || usage; up "$2" "$3" ;;
  down) (($# == 2)) || usage; stop "$2" TERM ;;
  kill) (($# == 2)) || usage; stop "$2" KILL ;;
  sweep) (($# == 2)) || usage; sweep "$2" ;;
  *) usage ;;
esac
