#!/usr/bin/env bash
# Builds Intaglio, converts the embedded model and classifies its sample images.
set -eu
cd "$(dirname "$0")"
. .ci/packages.sh
.ci/setup.sh "${build_packages[@]}"

build=build/demo
mkdir -p build
if [ ! -f "$build/build.ninja" ]; then
  cmake --preset release -B "$build" -DINTAGLIO_TESTS=OFF -DINTAGLIO_BENCH=OFF >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }
fi
echo "Building"
cmake --build "$build" >"$build.log" 2>&1 || { cat "$build.log" >&2; exit 1; }

run() { echo "\$ $*"; "$@"; }
echo
PATH=$PWD/$build/converters:$PWD/$build/engine:$PATH
glyphs=converters/glyphs
run intaglio-convert import $glyphs/glyphs.safetensors --labels $glyphs/labels.txt -o build/glyphs.intg
echo
run intaglio-classify build/glyphs.intg $glyphs/samples/A_0.* $glyphs/samples/7_1.* $glyphs/samples/R_3.* --top-k 3
echo
echo "\$ intaglio-classify build/glyphs.intg --eval $glyphs/samples/labels.csv --top-k 1 --threads 1 | tail -n 1"
intaglio-classify build/glyphs.intg --eval $glyphs/samples/labels.csv --top-k 1 --threads 1 | tail -n 1
