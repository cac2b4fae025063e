#!/usr/bin/env bash
# Includes point one way: kernels <- graph <- engine <- converters <- bench, tests. Of the kernels,
# graph sees the rounding rule alone (and what libraries export). Instruction sets are known in kernels/isa only.
# usage: check_includes.sh SOURCE_DIR
set -eu
cd "$1"
failed=0

# forbid FOLDER PATTERN: no file in FOLDER may include a header that matches PATTERN.
forbid() {
  local found
  found=$(grep -rnP "^#include \"($2)" --include='*.h' --include='*.cpp' --include='*.c' "$1" || true)
  if [ -n "$found" ]; then
    echo "forbidden include in $1:"; echo "$found"
    failed=1
  fi
}
forbid kernels '(graph|engine|converters|bench|tests)/'
forbid graph '(engine|converters|bench|tests)/|kernels/(?!fixed_point|api)'
forbid engine '(converters|bench|tests)/'
forbid converters '(bench|tests)/'
forbid bench 'tests/'

found=$(grep -rnE '^#include "[^/"]*"' --include='*.h' --include='*.cpp' --include='*.c' kernels graph engine converters bench tests docs || true)
if [ -n "$found" ]; then echo "includes must be relative to the root:"; echo "$found"; failed=1; fi

found=$(grep -rnE '^ *#.*__(AVX|SSE)' --include='*.h' --include='*.cpp' --include='*.c' . | grep -v '^./kernels/isa/' | grep -v '^./build' || true)
if [ -n "$found" ]; then echo "instruction sets outside kernels/isa:"; echo "$found"; failed=1; fi

found=$(grep -rn 'march=native' --include='CMakeLists.txt' --include='*.json' --include='*.sh' . |
        grep -v -e '^./build' -e check_includes.sh || true)
if [ -n "$found" ]; then echo "code for the building machine only:"; echo "$found"; failed=1; fi

[ $failed = 0 ] && echo "includes: one way, as designed"
exit $failed
