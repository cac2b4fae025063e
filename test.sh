#!/usr/bin/env bash
# Builds with gcc, clang, AddressSanitizer + UBSan, and ThreadSanitizer, and runs every test.
# usage: ./test.sh [PRESET...]    (default: release clang asan-ubsan tsan)
set -eu
cd "$(dirname "$0")"
. .ci/packages.sh
.ci/setup.sh "${test_packages[@]}"

mkdir -p build
presets=("$@")
[ ${#presets[@]} -gt 0 ] || presets=(release clang asan-ubsan tsan)

for preset in "${presets[@]}"; do
  echo "=== $preset"
  log=build/$preset.log
  targets=() tests=()
  if [ "$preset" = tsan ]; then  # what has threads
    targets=(--target test_session test_threads test_load test_c_api docs/examples/all
             intaglio-classify intaglio-convert)
    tests=(-R 'test_session|test_threads|test_load|test_c_api|test_programs|test_batch|test_examples')
  fi
  { cmake --preset "$preset" && cmake --build --preset "$preset" "${targets[@]}"; } >"$log" 2>&1 ||
    { cat "$log" >&2; exit 1; }
  ctest --preset "$preset" -j "$(nproc)" --timeout 600 "${tests[@]}"
  # What could not be tested is said again at the end of each run, not lost among its lines.
  grep -ahE '^\*\*\* |SKIPPED|NOT TESTED' "build/$preset/Testing/Temporary/LastTest.log" | sort -u || true
done
