#!/usr/bin/env bash
# What the CUDA kernels take of a multiprocessor, by ptxas: none may spill registers to memory, nor hold so many that less
# than a quarter of the threads that an A100 or H100 can keep fit there; and none more shared memory than a launch gets
# without asking. Fallbacks that are bound by arithmetic, products and attention, may have more registers.
# Usage: test_cuda_resources.sh NVCC
set -u
nvcc=$1
source=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() { # SM FILE
    local fused=
    [ "$(basename "$2")" = kernels_random.cu ] && fused=-fmad=false
    "$nvcc" -std=c++17 -O3 -arch="sm_$1" $fused -Xptxas=-v -I"$source/include" -I"$source/core" -I"$source/cuda" -cubin -o "$work/$1.cubin" "$2" \
        >"$work/$1-$(basename "$2").txt" 2>&1 || echo "FAILED: $2 does not compile for sm_$1"
}
for file in "$source"/cuda/kernels_*.cu; do
    compile 80 "$file" &
    compile 90 "$file"
    wait
done

# ptxas says: Compiling entry function 'NAME' for 'sm_90' / .. N bytes spill stores .. / Used N registers, .. N bytes smem
cat "$work"/*.txt | awk '
    /Compiling entry function/ { name = $0; sub(/.*entry function ./, "", name); split(name, part, "\x27"); name = part[1]; sm = part[3] }
    /bytes spill stores/ { match($0, /[0-9]+ bytes spill stores/); spilled = substr($0, RSTART) + 0 }
    /Used [0-9]+ registers/ {
        match($0, /Used [0-9]+/); registers = substr($0, RSTART + 5) + 0
        shared = match($0, /[0-9]+ bytes smem/) ? substr($0, RSTART) + 0 : 0
        arithmetic = name ~ /kernels_(attention|product)_cu/
        ++kernels; if (registers > most) most = registers
        if (spilled) bad("spills " spilled " bytes")
        if (registers > (arithmetic ? 255 : 128)) bad("takes " registers " registers")
        if (shared > 49152) bad("takes " shared " bytes of shared memory")
    }
    function bad(what) { print "FAILED: " name " (" sm ") " what; ++failures }
    END {
        if (kernels < 80) { print "FAILED: only " kernels + 0 " kernels seen"; ++failures }
        print kernels + 0 " kernels for sm_80 and sm_90, at most " most " registers, " failures + 0 " faults"
        exit failures > 0
    }'
