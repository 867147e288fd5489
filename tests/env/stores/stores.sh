#!/usr/bin/env bash
# Other object stores than the one of s3.sh, for a second opinion in `make soak`: gofakes3 (S3, MIT), fake-gcs-server (Google,
# BSD-2) and Azurite (Azure, MIT), each in memory. Built from Go modules or fetched from npm once, into ~/.cache/data-platform.
#
#   stores.sh build KIND     KIND: gofakes3, fake-gcs-server or azurite; print the path of the program
#   stores.sh up KIND DIR    start one at a free port; wait until it answers; print host:port
#   stores.sh kill DIR       kill it (SIGKILL) and wait for its end
#   stores.sh sweep DIR      kill every one whose folder lies below DIR
#
# DIR has the log. gofakes3 and fake-gcs-server check no login; Azurite has the account and key that its manual prints. gofakes3
# has a bucket "bucket"; the others begin with none. Needs Go 1.24 or newer, and Node.js 20 or newer with npm.
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail

# shellcheck source=tests/env/process.sh
source "$(dirname "${BASH_SOURCE[0]}")/../process.sh"

CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}

say() { echo "stores.sh: $*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# of KIND: its version, its folder and its program.
of() {
  case $1 in
    gofakes3) version=1.2.0 source=github.com/johannesboyne/gofakes3/cmd/gofakes3 ;;
    fake-gcs-server) version=1.56.1 source=github.com/fsouza/fake-gcs-server ;;
    # Newer ones need Node.js 22.
    azurite) version=3.35.0 source='' ;;
    *) usage ;;
  esac
  folder=$CACHE/$1-$version
  program=$folder/$1
  [[ $1 != azurite ]] || program=$folder/node_modules/.bin/azurite-blob
}

build() {
  local partial
  of "$1"
  [[ -x $program ]] && return
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.$1.lock"
  flock 9
  if [[ ! -x $program ]]; then
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    say "getting $1 $version (about a minute of processor time, once)"
    if [[ -n $source ]]; then
      command -v go >/dev/null || die "Go is missing (Debian: apt-get install golang)"
      GOGC=${GOGC:-800} CGO_ENABLED=0 GOFLAGS='' GOBIN=$partial go install -trimpath -ldflags "-s -w" "$source@v$version" >&2 ||
        { rm -rf "$partial"; die "$1 could not be built"; }
    else
      command -v npm >/dev/null || die "npm is missing (Debian: apt-get install npm)"
      npm install --silent --no-audit --no-fund --prefix "$partial" "azurite@$version" >&2 ||
        { rm -rf "$partial"; die "$1 could not be fetched"; }
    fi
    # The folder appears by one rename, so it is whole or not there.
    rm -rf "$folder"
    mv "$partial" "$folder"
  fi
  exec 9>&-
}

# The pid of the store of folder $1, if it runs.
running() { runs_as "$1/store.pid" "$(cat "$1/port" 2>/dev/null || echo none)"; }

up() {
  local kind=$1 dir port pid command
  build "$kind"
  mkdir -p "$2"
  dir=$(realpath "$2")
  port=$(free_ports 1)
  echo "$port" >"$dir/port"
  case $kind in
    gofakes3) command=("$program" -backend memory -host "127.0.0.1:$port" -initialbucket bucket) ;;
    fake-gcs-server)
      command=("$program" -scheme http -host 127.0.0.1 -port "$port" -backend memory -public-host "127.0.0.1:$port")
      ;;
    azurite)
      command=("$program" --inMemoryPersistence --blobHost 127.0.0.1 --blobPort "$port" --skipApiVersionCheck --disableTelemetry)
      ;;
  esac
  (cd "$dir" && exec setsid "${command[@]}" >>"$dir/store.log" 2>&1 </dev/null) &
  pid=$!
  echo "$pid" >"$dir/store.pid"
  for _ in $(seq 400); do
    if speaks_http "$port"; then
      echo "127.0.0.1:$port"
      return
    fi
    [[ -d /proc/$pid ]] || break
    sleep 0.05
  done
  tail -n 5 "$dir/store.log" >&2
  die "the $kind of $dir does not answer"
}

stop() {
  local dir pid
  dir=$(realpath "$1" 2>/dev/null) || return 0
  pid=$(running "$dir") || return 0
  kill -KILL "$pid" 2>/dev/null || return 0
  await_end "$pid" || die "pid $pid does not end"
}

sweep() {
  local file
  [[ -d $1 ]] || return 0
  while IFS= read -r file; do stop "$(dirname "$file")"; done < <(find "$1" -maxdepth 4 -name store.pid 2>/dev/null)
}

case ${1:-} in
  build) (($# == 2)) || usage; build "$2"; echo "$program" ;;
  up) (($# == 3)) || usage; up "$2" "$3" ;;
  kill) (($# == 2)) || usage; stop "$2" ;;
  sweep) (($# == 2)) || usage; sweep "$2" ;;
  *) usage ;;
esac
