#!/bin/sh
# check_symbols.sh OBJECT...
#
# An object of kernels/isa defines exactly one global symbol, its table, and no weak one: of an
# inline function compiled twice the linker keeps any copy, and the one with AVX-512 in it would
# crash an older CPU in code that has nothing to do with kernels.
set -eu

if [ $# -eq 0 ]; then
  echo "usage: $0 OBJECT..." >&2
  exit 1
fi

status=0
for object in "$@"; do
  if ! symbols=$(nm -C "$object"); then
    echo "FAILED: $object: nm cannot read it" >&2
    status=1
    continue
  fi
  # Fields: [address] type name. Weak: W V w v; u: unique across the process, as inline variables.
  weak=$(printf '%s\n' "$symbols" | grep -E '^[0-9a-f ]+ [WVwvu] ' || true)
  global=$(printf '%s\n' "$symbols" | grep -E '^[0-9a-f]+ +[ABCDGRSTi] ' || true)
  count=$(printf '%s' "$global" | grep -c . || true)
  if [ -n "$weak" ]; then
    echo "FAILED: $object: weak symbols:" >&2
    printf '%s\n' "$weak" >&2
    status=1
  fi
  if [ "$count" -ne 1 ]; then
    echo "FAILED: $object: $count global symbols instead of one:" >&2
    printf '%s\n' "$global" >&2
    status=1
  fi
  if [ -z "$weak" ] && [ "$count" -eq 1 ]; then
    echo "ok: $object: ${global#* T }"
  fi
done
exit $status
