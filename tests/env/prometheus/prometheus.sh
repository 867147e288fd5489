#!/usr/bin/env bash
# Prometheus for the tests, from its Debian package, unpacked into ~/.cache/data-platform/prometheus-<version>. Nothing is
# installed and no service is started.
#
#   prometheus.sh                         fetch it (once) and print the folder of `prometheus` and `promtool`
#   prometheus.sh up DIR CONFIGURATION    start one that keeps everything in DIR; wait until it is ready; print its address
#   prometheus.sh down DIR                stop it (SIGTERM) and wait for its end
#
# Needs apt-get. DIR/prometheus.log says what it logged.
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform), PROMETHEUS_WAIT (seconds to wait until it is ready: 30).
set -euo pipefail

# shellcheck source=tests/env/process.sh
source "$(dirname "${BASH_SOURCE[0]}")/../process.sh"

CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
HOST=127.0.0.1

say() { echo "prometheus.sh: $*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# The folder of the newest version in the cache, or nothing.
cached() {
  local file newest=''
  for file in "$CACHE"/prometheus-*/usr/bin/promtool; do
    [[ ! -x $file ]] || newest=$file
  done
  [[ -z $newest ]] || dirname "$newest"
}

fetch() {
  [[ -z $(cached) ]] || return 0
  command -v apt-get >/dev/null || die "apt-get is missing: Prometheus comes from its Debian package"
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.prometheus.lock"
  flock 9
  if [[ -z $(cached) ]]; then
    say "fetching Prometheus (19 MB, once)"
    local partial version
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    # As root apt-get fetches as another user, who may not write here; then it warns and does it as root.
    if ! (cd "$partial" && { apt-get download -qq prometheus || { apt-get update -qq && apt-get download -qq prometheus; }; }) \
      >"$partial/log" 2>&1; then
      cat "$partial/log" >&2
      rm -rf "$partial"
      die "the package could not be fetched"
    fi
    version=$(dpkg-deb -f "$partial"/prometheus_*.deb Version)
    dpkg -x "$partial"/prometheus_*.deb "$partial/root"
    # The folder appears by one rename, so it is whole or not there.
    mv "$partial/root" "$CACHE/prometheus-${version%%[+-]*}"
    rm -rf "$partial"
  fi
  exec 9>&-
}

# The pid of the Prometheus of folder $1, if it runs.
running() { runs_as "$1/prometheus.pid" "--storage.tsdb.path=$1/data"; }

ready() {
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout 2 bash -c '
    exec 3<>"/dev/tcp/$0/$1" || exit 1
    printf "GET /-/ready HTTP/1.0\r\n\r\n" >&3
    head -n 1 <&3 | grep -q " 200 "' "$HOST" "$1" 2>/dev/null
}

up() {
  local dir configuration=$2 port pid waited
  mkdir -p "$1"
  dir=$(realpath "$1")
  if ! pid=$(running "$dir"); then
    port=$(free_ports 1)
    setsid nohup "$(cached)/prometheus" --config.file="$configuration" --storage.tsdb.path="$dir/data" \
      --web.listen-address="$HOST:$port" >>"$dir/prometheus.log" 2>&1 </dev/null &
    pid=$!
    echo "$pid" >"$dir/prometheus.pid"
    echo "$port" >"$dir/port"
  fi
  port=$(cat "$dir/port")
  for ((waited = 0; waited < ${PROMETHEUS_WAIT:-30} * 10; waited++)); do
    if ready "$port"; then
      echo "http://$HOST:$port"
      return
    fi
    [[ -d /proc/$pid ]] || { tail -n 20 "$dir/prometheus.log" >&2; die "Prometheus ended; its log is $dir/prometheus.log"; }
    sleep 0.1
  done
  kill -9 "$pid" 2>/dev/null || true
  die "Prometheus was not ready within ${PROMETHEUS_WAIT:-30} s; its log is $dir/prometheus.log"
}

down() {
  local dir pid waited
  dir=$(realpath -m "$1")
  pid=$(running "$dir") || return 0
  kill -TERM "$pid" 2>/dev/null || return 0
  for ((waited = 0; waited < 200; waited++)); do
    running "$dir" >/dev/null || return 0
    sleep 0.05
  done
  kill -9 "$pid" 2>/dev/null || true
}

case ${1:-} in
  '') fetch; cached ;;
  up) (($# == 3)) || usage; fetch; up "$2" "$3" ;;
  down) (($# == 2)) || usage; down "$2" ;;
  *) usage ;;
esac
