#!/bin/sh
# check_integer_only.sh FILE...        objects, static libraries, or library.a:member.o
# check_integer_only.sh --self-test    proves that the check can fail ($CXX or c++ compiles)
#
# Disassembles and fails on any floating-point arithmetic, comparison or conversion: SSE, AVX,
# AVX-512, FMA, F16C, x87. Moves, logic and shuffles of registers are not arithmetic, whatever type
# their name says.
set -eu

# Mnemonics in AT&T syntax, whole words.
types='(ss|sd|ps|pd|sh|ph|bf16)'
sse="v?(add|sub|mul|div|sqrt|min|max|rcp|rsqrt|round|addsub|hadd|hsub|dp)$types"
compare="v?u?comi(ss|sd|sh)|v?cmp[a-z_]*(ss|sd|ps|pd|sh|ph)"
convert="v?cvt[a-z0-9]+"
fma="vfn?m(add|sub|addsub|subadd)[0-9]*$types|vf[c]?m(add|ul)c$types|vfcmaddc$types"
avx512="v(getexp|getmant|rndscale|reduce|scalef|range|fixupimm|fpclass|rcp14|rsqrt14|rcp28|rsqrt28|exp2|dpbf16)[a-z]*"
x87="f(i?(add|sub|mul|div)(r?p?)|sqrt|abs|chs|ild|i?stt?p?|u?comi?p?p?|icomp?|tst|xam|sin|cos|sincos|ptan|patan|2xm1|yl2x|yl2xp1|prem1?|rndint|scale|xtract)(s|l|ll|q)?|fist(p|tp)?(s|l|ll|q)?"
forbidden="^($sse|$compare|$convert|$fma|$avx512|$x87)\$"
# Moves of x87 (fld, fst, fstp, fxch) are moves; "fst" matches i?st without the i.
allowed='^(fst(p)?(s|l|t)?|cmps[bwlq]|cmpxchg.*)$'

# Prints "function: instruction" for each hit; the last line is "instructions N".
scan() {
  objdump -d -C --no-show-raw-insn "$1" | awk -v forbidden="$forbidden" -v allowed="$allowed" '
    /^[0-9a-f]+ <.*>:$/ { name = $0; sub(/^[0-9a-f]+ </, "", name); sub(/>:$/, "", name); next }
    /^ *[0-9a-f]+:\t/ {
      line = $0; sub(/^ *[0-9a-f]+:\t/, "", line); ++count
      split(line, word, /[ \t]+/); at = 1
      while (word[at] ~ /^(rep|repz|repnz|lock|data16|cs|ds|notrack|bnd|\{evex\}|\{vex\})$/) ++at
      if (word[at] ~ forbidden && word[at] !~ allowed) print "  " name ": " line
    }
    END { print "instructions " count + 0 }'
}

check() {
  file=$1
  case $file in
    *.a:*)
      extracted=$(mktemp)
      ar p "${file%%.a:*}.a" "${file##*.a:}" > "$extracted" || true
      found=$(scan "$extracted" || true)
      rm -f "$extracted"
      ;;
    *) found=$(scan "$file" || true) ;;
  esac
  count=$(printf '%s\n' "$found" | sed -n 's/^instructions //p')
  hits=$(printf '%s\n' "$found" | grep -v '^instructions ' || true)
  if [ "${count:-0}" -eq 0 ]; then
    echo "FAILED: $file: no instructions found" >&2
    return 1
  fi
  if [ -n "$hits" ]; then
    echo "FAILED: $file: floating-point arithmetic:" >&2
    printf '%s\n' "$hits" >&2
    return 1
  fi
  echo "ok: $file: $count instructions, no floating-point arithmetic"
}

# expect RESULT NAME CODE: compiles CODE and wants the check to end with RESULT (0 or 1).
expect() {
  printf '%s\n' "$3" > "$folder/$2.cpp"
  ${CXX:-c++} -O2 ${4:-} -c "$folder/$2.cpp" -o "$folder/$2.o"
  result=0
  check "$folder/$2.o" > "$folder/$2.log" 2>&1 || result=1
  if [ "$result" -ne "$1" ]; then
    echo "FAILED: self-test $2: expected $1, got $result" >&2
    cat "$folder/$2.log" >&2
    return 1
  fi
}

self_test() {
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  status=0
  expect 1 add 'float f(float a, float b) { return a + b; }' || status=1
  expect 1 scale 'double f(double a) { return a * 3; }' || status=1
  expect 1 convert 'int f(double a) { return static_cast<int>(a); }' || status=1
  expect 1 from_integer 'double f(int a) { return a; }' || status=1
  expect 1 widen 'double f(float a) { return a; }' || status=1
  expect 1 compare 'bool f(float a, float b) { return a < b; }' || status=1
  expect 1 x87 'long double f(long double a, int b) { return a * b; }' || status=1
  expect 1 vector 'void f(float* a) { for (int i = 0; i < 64; ++i) a[i] = a[i] * a[i] + 1; }' \
    '-O3 -mavx512f -mfma' || status=1
  expect 0 integer 'long f(const long* a) { long s = 0; for (int i = 0; i < 64; ++i) s += a[i] * 3; return s / 7; }' \
    '-O3 -mavx2' || status=1
  expect 0 moves 'struct S { float a[8]; }; void f(S* a, const S* b) { *a = *b; } float g(S* a) { return a->a[1]; }' ||
    status=1
  [ $status -eq 0 ] && echo "ok: self-test: float arithmetic is found, integers and moves pass"
  return $status
}

if [ $# -eq 0 ]; then
  echo "usage: $0 FILE... | --self-test" >&2
  exit 1
fi
if [ "$1" = --self-test ]; then
  self_test
  exit
fi
status=0
for file in "$@"; do check "$file" || status=1; done
exit $status
