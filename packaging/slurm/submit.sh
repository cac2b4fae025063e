#!/usr/bin/env bash
# Classifies images with a Slurm job array, and merges what its tasks wrote; see docs/cluster.md.
set -euo pipefail

usage() {
  cat <<'END'
usage: submit.sh --shards N --model FILE --output FILE [OPTION...] INPUT...

Submits an array of N tasks, each of which classifies every N-th image, and a job that merges their
rows into FILE when all tasks have ended: the same bytes as one run of intaglio-classify writes.
Called again, it goes on with the shards that are not complete.

  --shards N         tasks of the array
  --model FILE       model (.intg)
  --output FILE      where the rows go; the tasks' own files and logs are in FILE.parts
  --threads N        threads and CPUs of each task (default: 1)
  --retries N        how often a task may fail and be tried again (default: 3); the death of a node,
                     preemption and the time limit do not count
  --sbatch OPTION    an option of sbatch for all jobs, as --sbatch --partition=long; may be repeated
  --classify FILE    the program (default: the one installed with this script, or found in PATH)
  --wait             return when all is merged, with status 1 if that failed

All else is given to intaglio-classify: inputs, --csv (default: --json), --top-k N, ...
Paths must be valid on all nodes; relative ones start at the current folder.
END
}

fail() {
  printf 'submit.sh: %s\n' "$1" >&2
  exit 2
}

require_count() {  # NAME VALUE LEAST
  if ! [[ $2 =~ ^[0-9]{1,6}$ ]] || ((10#$2 < $3)); then
    fail "$1: expected a number from $3 on, not '$2'"
  fi
}

shards='' model='' output='' threads=1 retries=3 program='' wait=() sbatch_options=()
format=--json arguments=()
while [ $# -gt 0 ]; do
  case $1 in
    --shards=* | --model=* | --output=* | --threads=* | --retries=* | --sbatch=* | --classify=*)
      set -- "${1%%=*}" "${1#*=}" "${@:2}" ;;
  esac
  case $1 in
    --shards | --model | --output | --threads | --retries | --sbatch | --classify)
      [ $# -ge 2 ] || fail "$1: a value is missing"
      case $1 in
        --shards) shards=$2 ;;
        --model) model=$2 ;;
        --output) output=$2 ;;
        --threads) threads=$2 ;;
        --retries) retries=$2 ;;
        --sbatch) sbatch_options+=("$2") ;;
        --classify) program=$2 ;;
      esac
      shift ;;
    --wait) wait=(--wait) ;;
    --help | -h) usage; exit ;;
    --csv | --json) format=$1 ;;
    --resume | --overwrite | --shard | --shard=* | -o*) fail "$1: this script sets it for each task" ;;
    --logits* | --feature* | --eval*) fail "$1: not in a job array" ;;
    -) fail "-: tasks have no standard input; give a list of paths" ;;
    *) arguments+=("$1") ;;
  esac
  shift
done

if [ -z "$shards" ] || [ -z "$model" ] || [ -z "$output" ] || [ ${#arguments[@]} -eq 0 ]; then
  fail 'needed: --shards N --model FILE --output FILE INPUT...; see --help'
fi
require_count --shards "$shards" 1
require_count --threads "$threads" 1
require_count --retries "$retries" 0
shards=$((10#$shards)) threads=$((10#$threads)) retries=$((10#$retries))
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if [ -z "$program" ]; then
  program=$here/../../../bin/intaglio-classify
  [ -x "$program" ] || program=$(command -v intaglio-classify) ||
    fail 'no intaglio-classify found; see --classify'
fi
[ -x "$program" ] || fail "$program: no program"
program=$(realpath "$program")
command -v sbatch >/dev/null || fail 'no sbatch: this is no machine of a Slurm cluster'
[ -r "$model" ] || fail "$model: cannot be read"
[[ $output != *\\* ]] || fail "$output: Slurm takes no \\ in the names of logs"
[ ! -s "$output" ] || fail "$output: this file exists; remove it first"

parts=$output.parts
[ -d "$parts" ] || mkdir "$parts" || fail "$parts: cannot be made"
# Rows of different models or options must not be mixed.
run=$(printf 'shards %d\nmodel %s\narguments' "$shards" "$(cksum <"$model")"
  printf ' %q' "$format" "${arguments[@]}")
if [ ! -e "$parts/run" ]; then
  printf '%s\n' "$run" >"$parts/run"
elif [ "$run" != "$(cat "$parts/run")" ]; then
  printf 'These are the parts of another run:\n%s\n' "$(cat "$parts/run")" >&2
  fail "$parts: remove this folder to begin anew"
fi

if [ -s "$parts/job" ] && [ -n "$(squeue -h -j "$(cat "$parts/job")" 2>/dev/null)" ]; then
  fail "$parts: job $(cat "$parts/job") still runs or waits"
fi

missing=()
for ((shard = 0; shard < shards; ++shard)); do
  [ -e "$parts/$shard.rows" ] || missing+=("$shard")
done
array=$(IFS=, && printf '%s' "${missing[*]}")
[ ${#missing[@]} -lt "$shards" ] || array=0-$((shards - 1))

submit() {  # LOG OPTION... SCRIPT ARGUMENT...
  sbatch --parsable --requeue --open-mode=append --job-name=intaglio \
    --output="${parts//%/%%}/$1" "${sbatch_options[@]}" "${@:2}"
}

after=()
if [ ${#missing[@]} -gt 0 ]; then
  rm -f "$parts"/*.failures
  # A task is told two minutes before its time is over.
  job=$(submit %a.log --array="$array" --cpus-per-task="$threads" --signal=B:USR1@120 \
    "$here/shard.sbatch" "$parts" "$shards" "$retries" "$program" "$model" \
    "$format" --threads "$threads" "${arguments[@]}")
  job=${job%%;*}
  printf '%s\n' "$job" >"$parts/job"
  echo "job $job: ${#missing[@]} of $shards shards, logs and rows in $parts"
  after=(--dependency="afterany:$job")
fi
printf 'merge into %s: job ' "$output"
submit merge.log "${after[@]}" "${wait[@]}" \
  "$here/merge.sbatch" "$parts" "$shards" "$program" "$output" || {
  [ ${#wait[@]} -eq 0 ] || tail -n 3 "$parts/merge.log" >&2 || true
  exit 1
}
