#!/usr/bin/env bash
# Compiled dependencies for another clone on the same machine: DataFusion and the rest take half an hour, and are the same as long as
# Cargo.lock, the profile and the compiler are.
#
#   dependencies.sh restore   gives an empty target folder what is kept
#   dependencies.sh keep      keeps what the target folder has, if that is not kept yet; older ones go
#
# Cargo itself judges whether what it finds is right: what does not fit is compiled again. Our own crates are not kept.
# Environment: CARGO_TARGET_DIR, DATA_PLATFORM_CACHE (~/.cache/data-platform).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

TARGET=${CARGO_TARGET_DIR:-target}
CACHE=${DATA_PLATFORM_CACHE:-$HOME/.cache/data-platform}
kept=$CACHE/dependencies-$(cat Cargo.lock Cargo.toml .cargo/config.toml <(rustc -vV) | sha256sum | head -c 12)

case ${1:-} in
  restore)
    if [[ -e $kept && ! -e $TARGET ]]; then
      echo "==> dependencies as they were compiled before: $kept"
      mkdir -p "$(dirname "$TARGET")"
      cp -a --reflink=auto "$kept" "$TARGET"
    fi
    ;;
  keep)
    if [[ -e $kept || ! -e $TARGET/release/.fingerprint ]]; then exit 0; fi
    rm -rf "$CACHE"/dependencies-*
    mkdir -p "$kept.new/release/deps"
    cp -a "$TARGET/.rustc_info.json" "$kept.new/" 2>/dev/null || true
    for folder in build .fingerprint; do
      cp -a "$TARGET/release/$folder" "$kept.new/release/"
      rm -rf "$kept.new/release/$folder"/data-platform-*
    done
    find "$TARGET/release/deps" -maxdepth 1 -type f ! -name '*data_platform*' ! -name '*.rcgu.o' ! -name 'main-*' ! -name 'corpus_of_manifests-*' \
      ! -name 'shipped_files-*' -exec cp -a -t "$kept.new/release/deps" {} +
    mv "$kept.new" "$kept"
    ;;
  *)
    echo "usage: dependencies.sh restore|keep" >&2
    exit 64
    ;;
esac
