#!/usr/bin/env bash
# Looks for the tools that the build and the tests need.
#
#   tools.sh build            those of the build: Rust, a C compiler, make, perl
#   tools.sh test             and those of the tests: a JDK, Maven, Python with venv
#   tools.sh cluster          those of the node of a test cluster: a container runtime and what wires its network
#   tools.sh chart            those of the chart's tests: Go (Helm is built with it), Lua
#   tools.sh --install KIND   on Debian as root, installs by package name what is missing
#
# Says what is missing and how to get it, and ends with 1; prints nothing when all is there.
set -euo pipefail

RUST_VERSION=1.95
JAVA_VERSION=17
PYTHON_VERSION=3.10

install=no
if [[ ${1:-} == --install ]]; then
  install=yes
  shift
fi
kind=${1:?usage: tools.sh [--install] build|test|cluster|chart}

packages=()
explanations=()
need() { # PACKAGE EXPLANATION
  packages+=("$1")
  explanations+=("$2")
}
has() { command -v "$1" >/dev/null 2>&1; }
# Whether version $1 is at least $2.
at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

look() {
  packages=()
  explanations=()
  if [[ $kind == cluster ]]; then
    # Debian keeps most of these in sbin, which is not in everybody's PATH.
    local PATH=$PATH:/usr/sbin:/sbin
    has cc || need build-essential "a C compiler"
    has python3 || need python3 "Python"
    has openssl || need openssl "openssl (certificates)"
    has containerd || need containerd "containerd"
    has runc || need runc "runc"
    has nft || need nftables "nft"
    has iptables || need iptables "iptables"
    has conntrack || need conntrack "conntrack"
    has ip || need iproute2 "ip"
    [[ -x /usr/lib/cni/bridge ]] || need containernetworking-plugins "the network plugins of containers"
    return
  fi
  if [[ $kind == chart ]]; then
    has go || need golang "Go (Helm is built with it)"
    has lua5.4 || need lua5.4 "Lua 5.4 (health scripts of Argo CD)"
    return
  fi
  # librdkafka, OpenSSL, zstd and zlib are compiled from source.
  if ! has cc || ! has c++ || ! has make; then need build-essential "a C and C++ compiler and make"; fi
  has perl || need perl "perl (OpenSSL is configured with it)"
  has pkg-config || need pkg-config "pkg-config"
  [[ $kind == build ]] && return

  local java=0
  has javac && java=$(javac -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')
  ((${java:-0} >= JAVA_VERSION)) ||
    need default-jdk-headless "a JDK, version $JAVA_VERSION or newer (the broker of the tests)"
  has mvn || need maven "Maven (it fetches the broker)"
  local python=0
  has python3 && python=$(python3 -c 'import platform; print(platform.python_version())')
  at_least "$python" "$PYTHON_VERSION" ||
    need python3 "Python, version $PYTHON_VERSION or newer (independent readers of the output)"
  # ensurepip is what Debian leaves out of python3.
  python3 -c 'import venv, ensurepip' 2>/dev/null || need python3-venv "Python's venv with pip"
  has openssl || need openssl "openssl (certificates of the test broker)"
}

look
if ((${#packages[@]} > 0)) && [[ $install == yes && $(id -u) == 0 ]] && has apt-get; then
  echo "==> installing ${packages[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq -o Acquire::Retries=3 >&2
  apt-get install -y -qq -o Acquire::Retries=3 --no-install-recommends "${packages[@]}" >&2
  look
fi

status=0
if ((${#packages[@]} > 0)); then
  status=1
  echo "Missing on this machine:" >&2
  printf '  %s\n' "${explanations[@]}" >&2
  echo "On Debian or Ubuntu: apt-get install ${packages[*]}" >&2
fi
[[ $kind != cluster && $kind != chart ]] || exit $status
rust=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
if ! has cargo || [[ -z $rust ]] || ! at_least "$rust" "$RUST_VERSION"; then
  status=1
  echo "Rust $RUST_VERSION or newer is needed (found: ${rust:-none}): install rustup, then: rustup update stable" >&2
fi
exit $status
