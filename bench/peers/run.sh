#!/usr/bin/env bash
# Intaglio beside ONNX Runtime and PyTorch on this machine; --help lists the options. Installs what it
# needs from Debian; downloads and generated graphs go to build/peers.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
folder=$root/build/peers
python=/usr/bin/python3 # Debian's own: it is the one that sees Debian's packages

fail() { echo "peers: $*" >&2; exit 1; }
. "$root/.ci/packages.sh"
"$root/.ci/setup.sh" "${bench_packages[@]}" >&2
command -v npm >/dev/null || fail "npm is needed, to get ONNX Runtime (package onnxruntime-node)"

mkdir -p "$folder"
if [ ! -d "$folder/node_modules/onnxruntime-node" ]; then
  # Its library for CPUs lies in the package; the install script would only fetch GPU support.
  echo '{"private": true}' >"$folder/package.json"
  (cd "$folder" && npm install --ignore-scripts --no-audit --no-fund onnxruntime-node@1.30.0) >&2
fi

build=$root/build/release
programs=(intaglio-yardstick intaglio-hide-avx512 intaglio-bench)
intaglio=(--intaglio "$build/bench/intaglio-bench")
case " $* " in *" --intaglio"*) programs=(intaglio-yardstick intaglio-hide-avx512) intaglio=() ;; esac
{ cmake -S "$root" --preset release && cmake --build "$build" --target "${programs[@]}"; } >"$folder/build.log" 2>&1 ||
  { tail -n 30 "$folder/build.log" >&2; fail "the build failed"; }

exec "$python" -B "$root/bench/peers/peers.py" --folder "$folder" \
  --yardstick "$build/bench/peers/intaglio-yardstick" \
  --hide-avx512 "$build/bench/peers/intaglio-hide-avx512.node" "${intaglio[@]}" "$@"
