#!/bin/bash
# An operator is added as docs/adding.md says, with the page's own text, in a copy of the tree: the two files that it
# names are all that it takes; the reference computes it, and every other backend builds, lists it as not there, and
# refuses it by name. Arguments: source folder, build folder.
set -eu
source=$1 build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "FAILED: $1"; exit 1; }

mkdir "$work/tree"
tar -C "$source" --exclude=./build --exclude=./.git --exclude=./checkpoints --exclude='./runs*' -c . | tar -C "$work/tree" -x
cd "$work/tree"

# block FILE: the indented text under the item of docs/adding.md's first section that begins with `FILE`
block()
{
    awk -v file="$1" '/^## /{ in_it = $0 == "## An operator" } /^[0-9]\. /{ of = index($0, "`" file "`") == 4 }
                      in_it && of && /^       /{ print substr($0, 8) } in_it && of && /^$/{ print "" }' docs/adding.md
}
block core/op.def | grep -q 'EACH(relu' || fail "docs/adding.md has no row"
block cpu/reference_elementwise.c | grep -q sid2_reference_relu || fail "docs/adding.md has no kernel"
block core/op.def >row
# the row goes before the table's end
awk 'FNR == NR { row = row $0 "\n"; next } /^#undef OP$/ { printf "%s", row } { print }' row "$source/core/op.def" >core/op.def
block cpu/reference_elementwise.c >>cpu/reference_elementwise.c

jobs=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
cmake -S . -B new -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS=-O0 -DCMAKE_CXX_FLAGS=-O0 -DSID2_CUDA=OFF -DSID2_WERROR=ON >log 2>&1 ||
    { tail -20 log; fail "it does not configure"; }
targets="sid2 test_device"
grep -q test_vk_model "$build/tests/CTestTestfile.cmake" && targets+=" test_vk_model"
grep -q test_cuda_kernels "$build/tests/CTestTestfile.cmake" && targets+=" test_cuda_kernels"
cmake --build new -j"$jobs" --target $targets >log 2>&1 || { tail -40 log; fail "it does not build"; }

new/sid2 check --device reference --op relu,scale >out || { cat out; fail "the reference does not compute it"; }
grep -Eq '^relu +0\.000 .* pass$' out || { cat out; fail "the reference does not list it"; }
new/sid2 help --operators | grep -q '^| `relu` | x= | y |' || fail "help --operators does not list it"
new/tests/test_device >out 2>&1 || { cat out; fail "test_device"; }
for device in $(new/sid2 devices | grep -Eo '^(cpu|vulkan:0)\b'); do
    new/sid2 check --device "$device" --op relu,scale --cases 1 >out || { cat out; fail "check on $device"; }
    grep -Eq '^relu +- .* not there$' out || { cat out; fail "$device does not say that it is not there"; }
    grep -Eq '^scale .* pass$' out || { cat out; fail "$device lost others"; }
    echo "$device: relu is not there"
done
for program in $targets; do
    case $program in
    test_vk_model) new/tests/$program 1 'what_is_not_there*' ;;
    test_cuda_kernels) new/tests/$program 1 relu ;;
    *) continue ;;
    esac >out 2>&1 || { [ $? -eq 77 ] || { cat out; fail "$program"; }; }
    case $program in
    test_cuda_kernels) grep -q '^relu .* not there' out || { cat out; fail "$program does not say so"; } ;;
    esac
    echo "$program: refused by name"
done
echo "an operator took two files"
