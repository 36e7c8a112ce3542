#!/usr/bin/env bash
# tests/on_gpu with the CPU in the GPU's place, all but its benchmarks: that it works where it can be tried.
# Usage: test_cuda_rehearsal.sh BUILD
set -u
build=$1
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
export SID2_ON_GPU_SECONDS=800
trap 'rm -rf "$work"' EXIT
failures=0
fail() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

bash "$source/tests/on_gpu" --rehearse --build "$build" --only '[dgilos]*' "$work/out" >"$work/log" 2>&1 || fail "it ends with $?"
for stage in build device operators operators-own images-f32 images-bf16 graphs losses-f32 losses-bf16 same-bits; do
    grep -q "^$stage  *ok " "$work/out/summary.txt" || fail "$stage is not ok"
done
grep -q '^sanitizers  *skipped' "$work/out/summary.txt" || fail "the sanitizers are not skipped"
python3 -c 'import json, sys; assert len(json.load(open(sys.argv[1]))["stages"]) >= 11' "$work/out/results.json" || fail "results.json"

# A folder without programs is told at once, and no GPU is no failure.
bash "$source/tests/on_gpu" --rehearse --build "$work" "$work/none" >"$work/none.log" 2>&1
grep -q 'no program, nothing to test' "$work/none.log" || fail "no program: $(tail -n 3 "$work/none.log")"
if ! command -v nvidia-smi >/dev/null; then
    bash "$source/tests/on_gpu" "$work/none" >"$work/none.log" 2>&1
    [ $? -eq 77 ] || fail "without a GPU it is not skipped"
fi

if [ "$failures" -ne 0 ]; then
    cat "$work/log"
    exit 1
fi
echo "all good"
