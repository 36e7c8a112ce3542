#!/usr/bin/env bash
# Installs what the tests need, builds with warnings as errors, runs every test; then all but the longest once
# more under the address and undefined-behaviour sanitizers, and the CPU's with clang and its thread sanitizer.
set -euo pipefail
cd "$(dirname "$0")"
source ./packages.sh

install build-test/install.log "${build_packages[@]}" "${test_packages[@]}"
swiftshader build-test/swiftshader
gpu_drivers build-test/gpu-drivers
run "configuring" build-test/configure.log cmake -S . -B build-test -G Ninja -DSID2_WERROR=ON -DSID2_VK_CASES=250
run "building" build-test/build.log cmake --build build-test
ctest --test-dir build-test --output-on-failure --parallel "$(nproc)"

run "configuring with sanitizers" build-sanitize/configure.log cmake -S . -B build-sanitize -G Ninja \
    -DSID2_SANITIZE=ON -DSID2_CUDA_ARCHITECTURES=90-real -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g1"
run "building with sanitizers" build-sanitize/build.log cmake --build build-sanitize
# Without the operators at hundreds of shapes, and without other people's JIT compilers and layers. The sanitizer's
# own stacks, for uses after return, are not aligned for vectors of 64 bytes (gcc 14 crashes in them).
ASAN_OPTIONS=detect_stack_use_after_return=0 LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp ctest --test-dir build-sanitize --output-on-failure \
    --parallel "$(nproc)" --exclude-regex 'test_(vk_)?ops|swiftshader|validated|shaders'

# clang's OpenMP has threads that its sanitizer understands; gcc's, and so oneDNN's, are strangers to it.
run "configuring with clang" build-thread/configure.log cmake -S . -B build-thread -G Ninja -DCMAKE_C_COMPILER=clang \
    -DCMAKE_CXX_COMPILER=clang++ -DSID2_WERROR=ON -DSID2_SANITIZE=thread -DSID2_CUDA=OFF -DSID2_VULKAN=OFF \
    -DSID2_ONEDNN=OFF -DCMAKE_BUILD_TYPE=Debug -DCMAKE_C_FLAGS_DEBUG="-O1 -g1"
run "building with clang and its thread sanitizer" build-thread/build.log cmake --build build-thread
export TSAN_OPTIONS="ignore_noninstrumented_modules=1 die_after_fork=0" # tests fork, and train there
run "every operator at 100 shapes" build-thread/ops.log build-thread/tests/test_ops 100
ctest --test-dir build-thread --output-on-failure --parallel "$(nproc)" \
    --tests-regex '^test_(data_dataset|device|golden|lanes|model|run|sampler|team|trainer|waiting)$'
run "clang-tidy" build-test/tidy.log tests/tidy build-test
