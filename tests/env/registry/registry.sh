#!/usr/bin/env bash
# A real schema registry for the tests: Apicurio from Maven Central, with its API of Confluent's kind. Needs JDK 17 and Maven.
#
#   registry.sh jars          fetch it (once, 110 MB) and print its folder
#   registry.sh up DIR        start one that keeps its schemas in DIR; wait until it answers; print its address
#   registry.sh kill DIR      kill it (SIGKILL) and wait for its end
#   registry.sh sweep DIR     kill every registry whose folder lies below DIR
#
# WRITE_DELAY: what was answered must be there after a kill.
# `up` on a folder that had one before starts it again at the same address, with its schemas. It takes 4 s of CPU.
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail

# shellcheck source=tests/env/process.sh
source "$(dirname "${BASH_SOURCE[0]}")/../process.sh"

VERSION=3.0.9
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}/registry
HOME_DIR=$CACHE/apicurio-$VERSION
JAR=$HOME_DIR/apicurio-registry-app-$VERSION-runner.jar

say() { echo "registry.sh: $*" >&2; }
die() { say "$*"; exit 1; }
usage() { sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2; }

# The folder appears by one rename, so it is whole or not there.
jars() {
  [[ -f $JAR ]] && return
  command -v mvn >/dev/null || die "Maven is missing (Debian: apt-get install maven)"
  mkdir -p "$CACHE"
  exec 9>"$CACHE/.lock"
  flock 9
  if [[ ! -f $JAR ]]; then
    say "fetching the schema registry with Maven (about 110 MB, once)"
    local partial
    partial=$(mktemp -d "$CACHE/.partial.XXXXXX")
    if ! timeout 900 mvn -B -q dependency:copy -Dartifact="io.apicurio:apicurio-registry-app:$VERSION:tar.gz:all" \
      -DoutputDirectory="$partial" >"$partial/maven.log" 2>&1; then
      tail -n 20 "$partial/maven.log" >&2
      rm -rf "$partial"
      die "Maven could not fetch it"
    fi
    tar -xzf "$partial"/*.tar.gz -C "$partial"
    rm -rf "$partial"/*.tar.gz "$HOME_DIR"
    mv "$partial" "$HOME_DIR"
  fi
  exec 9>&-
}

# Whether the registry at port $1 lists its subjects.
answers() {
  # shellcheck disable=SC2016  # the inner shell expands them
  timeout 2 bash -c '
    exec 3<>"/dev/tcp/127.0.0.1/$0" || exit 1
    printf "GET /apis/ccompat/v7/subjects HTTP/1.0\r\n\r\n" >&3
    head -n 1 <&3 | grep -q " 200 "' "$1" 2>/dev/null
}

# The pid of the registry of folder $1, if it runs.
running() { runs_as "$1/registry.pid" "h2:file:$1/"; }

up() {
  local dir port pid waited url
  mkdir -p "$1"
  dir=$(realpath "$1")
  [[ -f $dir/port ]] || free_ports 1 >"$dir/port"
  port=$(cat "$dir/port")
  url=http://127.0.0.1:$port/apis/ccompat/v7
  if ! pid=$(running "$dir"); then
    setsid nohup java -Xmx320m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Dquarkus.http.host=127.0.0.1 \
      -Dquarkus.http.port="$port" -Dapicurio.storage.kind=sql -Dapicurio.storage.sql.kind=h2 \
      -Dapicurio.datasource.url="jdbc:h2:file:$dir/schemas;WRITE_DELAY=0" -jar "$JAR" >>"$dir/registry.log" 2>&1 </dev/null 9>&- &
    pid=$!
    echo "$pid" >"$dir/registry.pid"
  fi
  for ((waited = 0; waited < 600; waited++)); do
    if answers "$port"; then
      echo "$url"
      return
    fi
    if [[ ! -d /proc/$pid ]]; then
      tail -n 20 "$dir/registry.log" >&2
      die "the registry ended; its log is $dir/registry.log"
    fi
    sleep 0.1
  done
  tail -n 20 "$dir/registry.log" >&2
  kill -9 "$pid" 2>/dev/null
  die "the registry did not answer within 60 s; its log is $dir/registry.log"
}

stop() {
  local dir pid waited
  dir=$(realpath -m "$1")
  pid=$(running "$dir") || return 0
  kill -9 "$pid" 2>/dev/null || return 0
  for ((waited = 0; waited < 400; waited++)); do
    ! gone "$pid" || return 0
    sleep 0.05
  done
  die "pid $pid does not end"
}

sweep() {
  local file
  [[ -d $1 ]] || return 0
  while IFS= read -r file; do
    stop "$(dirname "$file")"
  done < <(find "$1" -name registry.pid -type f)
}

case ${1:-} in
  jars) (($# == 1)) || usage; jars; echo "$HOME_DIR" ;;
  up) (($# == 2)) || usage; jars; up "$2" ;;
  kill) (($# == 2)) || usage; stop "$2" ;;
  sweep) (($# == 2)) || usage; sweep "$2" ;;
  *) usage ;;
esac
