#!/usr/bin/env bash
# Builds what a test cluster runs from Go modules (once) and prints the folder with all of it.
#
#   binaries.sh        etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kube-proxy, coredns,
#                      kubectl (links to one program, hyperkube, that shares what they have in common) and helm
#   binaries.sh reason say why they cannot be built here, in one line, and end with 3; say nothing if they can
#
# From nothing this takes 1,000 CPU-seconds and 3 GB of Go's own build cache; 200 MB are kept, in
# ~/.cache/data-platform/kube. Needs Go (the version is in hyperkube/go.mod).
# Environment: DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
SOURCE=$HERE/hyperkube
KUBERNETES_VERSION=v1.34.4 # that of the modules in hyperkube/go.mod: what the programs say of themselves
NAMES=(etcd coredns kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl)

say() { echo "binaries.sh: $*" >&2; }

go_is_missing() {
  local wanted found
  wanted=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$SOURCE/go.mod")
  if ! command -v go >/dev/null; then
    echo "Go is missing ($wanted or newer; the test cluster is built with it)"
    return
  fi
  found=$(go env GOVERSION)
  [[ $(printf '%s\n%s\n' "$wanted" "${found#go}" | sort -V | head -n 1) == "$wanted" ]] ||
    echo "Go $wanted or newer is needed for the test cluster (found: $found)"
}

if command -v go >/dev/null; then
  # Another source, version or compiler is another folder.
  KEY=$KUBERNETES_VERSION-$(cat "$SOURCE"/{main.go,go.mod,go.sum} | sha256sum | head -c 12)-$(go env GOVERSION)
else
  KEY=without-go
fi
BIN=$CACHE/kube/$KEY
complete() { [[ -x $BIN/hyperkube ]]; }

# A registry that is slow to answer once must not cost the run.
modules() {
  local attempt
  for attempt in 1 2 3; do
    (cd "$SOURCE" && GOFLAGS='' go mod download) >&2 && return
    say "the Go modules did not come (attempt $attempt of 3)"
    sleep $((attempt * 5))
  done
  return 1
}

build_kubernetes() {
  local package=k8s.io/component-base/version minor=${KUBERNETES_VERSION#v1.} names=() name partial
  say "building Kubernetes $KUBERNETES_VERSION (once; about 13 CPU-minutes)"
  for name in "gitVersion=$KUBERNETES_VERSION" gitMajor=1 "gitMinor=${minor%%.*}" gitTreeState=clean \
    "gitCommit=$(printf '0%.0s' {1..40})" buildDate=2026-01-01T00:00:00Z; do
    names+=("-X $package.$name")
  done
  partial=$(mktemp -d "$CACHE/kube/.partial.XXXXXX")
  modules
  # Without debug information, and with a lazy collector in the compiler: a third less time.
  (cd "$SOURCE" && GOGC=${GOGC:-800} CGO_ENABLED=0 GOFLAGS='' go build -buildvcs=false -trimpath -mod=readonly \
    -tags grpcnotrace -gcflags=all=-dwarf=false -ldflags "-s -w ${names[*]}" -o "$partial/hyperkube" .) >&2
  for name in "${NAMES[@]}"; do
    ln -s hyperkube "$partial/$name"
  done
  chmod 755 "$partial"
  rm -rf "$BIN"
  mv "$partial" "$BIN"
}

case ${1:-} in
  '') ;;
  reason)
    complete && exit 0
    reason=$(go_is_missing)
    [[ -z $reason ]] && exit 0
    echo "$reason"
    exit 3
    ;;
  *) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac

if ! complete; then
  reason=$(go_is_missing)
  if [[ -n $reason ]]; then
    say "$reason"
    exit 3
  fi
  mkdir -p "$CACHE/kube"
  exec 9>"$CACHE/kube/.lock"
  flock 9
  [[ -x $BIN/hyperkube ]] || build_kubernetes
  exec 9>&-
fi
helm=$("$HERE/../helm/helm.sh")
[[ $BIN/helm -ef $helm ]] || ln -sfn "$helm" "$BIN/helm"
echo "$BIN"
