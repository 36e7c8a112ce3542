#!/usr/bin/env bash
# Every operator under GPU-assisted validation, which sees each access of a shader to memory outside its binding, reads whose value
# is dropped too.
#
#     test_vk_assisted.sh DRIVERS PROGRAMS [CASES]
#
# DRIVERS is test.sh's folder of newer layers, PROGRAMS that of test_vk_ops and short_bindings. The layers of Debian 12 see nothing.
# Exit code 77: no such folder, or this driver cannot be validated so.
set -euo pipefail
drivers=$1 programs=$2 cases=${3:-1} here=$(cd "$(dirname "$0")" && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
[ -e "$drivers/usr/share/vulkan/explicit_layer.d/VkLayer_khronos_validation.json" ] ||
    { echo "skipped: no validation layers in $drivers"; exit 77; }
drivers=$(realpath "$drivers")
assisted() # COMMAND...: its output and the layer's, in `said`
{
    VK_LAYER_PATH=$drivers/usr/share/vulkan/explicit_layer.d VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation \
        VK_KHRONOS_VALIDATION_GPUAV_ENABLE=true VK_KHRONOS_VALIDATION_VALIDATE_CORE=false \
        "$here/vk_driver" "$drivers" system "$@" >"$scratch/said" 2>&1
}

# Shared memory and reductions are what drivers have stumbled over, once their shaders were instrumented.
for op in scale row_norm; do
    if assisted "$programs/short_bindings" $op 0; then :; else
        code=$?
        [ $code -lt 128 ] && [ $code != 77 ] && { cat "$scratch/said"; exit 1; }
        echo "skipped: this driver does not bear GPU-assisted validation (exit code $code)"
        exit 77
    fi
    if grep -q "VUID-" "$scratch/said"; then cat "$scratch/said"; exit 1; fi
    assisted "$programs/short_bindings" $op 4 || true
    if ! grep -q "VUID-.*storageBuffers" "$scratch/said"; then
        echo "FAILED: the layer does not see that $op leaves a binding that ends too early:"
        cat "$scratch/said"
        exit 1
    fi
done
# The shaders for CPU drivers in f32, and those for GPUs in f16: other types differ in how they load and store.
every() # SETTING...
{
    (export "$@" && assisted "$programs/test_vk_ops" "$cases") || { cat "$scratch/said"; exit 1; }
    if grep -q "VUID-" "$scratch/said"; then cat "$scratch/said"; exit 1; fi
    cat "$scratch/said"
}
every SID2_VK_TYPE=f32
every SID2_VK_AS_GPU=1 SID2_VK_TYPE=f16
