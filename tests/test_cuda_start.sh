#!/usr/bin/env bash
# A sid2 built with CUDA on a machine without its driver: it starts, says what is missing, computes on what there
# is, and refuses the GPU in one line. Usage: test_cuda_start.sh SID2
set -u
sid2=$1
source=$(cd "$(dirname "$0")/.." && pwd)
if ldconfig -p 2>/dev/null | grep -q 'libcuda\.so\.1'; then
    echo "skipped: there is a driver"
    exit 77
fi
. "$source/tests/workplace.sh"

if ldd "$sid2" | grep -E 'libcuda|libcudart|libcublas|libcudnn'; then fail "the program is bound to CUDA's libraries"; fi
"$sid2" devices >out || fail "sid2 devices does not end well"
grep -q '^cpu ' out || fail "the CPU is not listed"
[ "$(grep -c '^CUDA: no driver (libcuda.so.1 not found)$' out)" -eq 1 ] || fail "nothing says what is missing: $(cat out)"

"$sid2" sample "$source/checkpoints/fashion-mnist" --device cuda:0 2>err
[ $? -eq 1 ] || fail "asking for cuda:0 should end with 1"
[ "$(wc -l <err)" -eq 1 ] || fail "not one line: $(cat err)"
grep -q "no device 'cuda:0'. CUDA: no driver" err || fail "why cuda:0 is refused: $(cat err)"
"$sid2" sample "$source/checkpoints/fashion-mnist" --seeds 0 --steps 2 --deterministic --tf32 2>err ||
    fail "the CPU does not take over: $(cat err)"

# No libraries anywhere: still the same.
SID2_CUDA_LIBRARIES=$work:/nowhere "$sid2" devices >out || fail "sid2 devices with a list of folders"
grep -q '^CUDA: no driver' out || fail "folders without libraries"

SID2_CUDA_LIBRARIES=none "$sid2" devices >out || fail "sid2 devices without libraries"
grep -q '^CUDA: libcublasLt.so.13 (or .12) not found' out || fail "a list of none: $(cat out)"

# Libraries are found in Python's packages, before the system's, and one that is not what it should be is named.
mkdir -p packages/nvidia/cublas/lib
echo 'int nothing;' | cc -shared -fPIC -o packages/nvidia/cublas/lib/libcublasLt.so.13 -xc - || fail "no compiler"
SID2_CUDA_LIBRARIES=/nowhere::$work/packages "$sid2" devices >out || fail "sid2 devices with an odd library"
grep -q '^CUDA: libcublasLt lacks cublasLtCreate: own matrix products' out || fail "the odd library: $(cat out)"

[ "$failures" -eq 0 ] && echo "all good"
exit $((failures != 0))
