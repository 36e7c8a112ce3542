#!/usr/bin/env bash
# A Vulkan device lost under `sid2 train`, by a loader that says so (lost_vulkan.c): lost once, the device is opened
# again and the run ends with the weights of one that met nothing; lost twice, it ends with one line and what was
# saved stays, to go on from.
# Usage: test_vk_reopen.sh SID2 FOLDER-OF-THE-LOADER SYSTEM-LOADER
set -u
sid2=$1 loader=$2 here=$(cd "$(dirname "$0")" && pwd)
export SID2_REAL_VULKAN=$3
if [ ! -e "$SID2_REAL_VULKAN" ] || ! "$sid2" devices | grep -q '^vulkan:0'; then
    echo "skipped: no Vulkan device"
    exit 77
fi
. "$here/workplace.sh"

# train OUT LOSE-AT: the exit code in $code
train() {
    LD_LIBRARY_PATH=$loader SID2_LOSE_AT=$2 "$sid2" train --device vulkan:0 --preset quickstart --data pictures --out "$1" \
        --set model.channels=16,16 --set model.blocks=res,res --set model.depth=1 --set model.mid_depth=1 --set model.emb=32 \
        --set model.groups=4 --set model.patch=4 --set train.batch=4 --set train.sample_every=0 --set train.eval_every=0 \
        --set train.precision=f32 --set train.steps=8 --set train.checkpoint_every=2 >out 2>err
    code=$?
}
digest() { (cd "$1/checkpoints/step-00000008" && sha256sum -- *.safetensors || echo "nothing in $1"); }

"$sid2" data synth --out pictures --count 40 >/dev/null || fail "no pictures"
train straight ''
[ "$code" -eq 0 ] || fail "undisturbed it ends with $code: $(cat err)"

# Once, at submissions early and late.
met=0
for at in 5 25 40 60; do
    train "once-$at" "$at"
    [ "$code" -eq 0 ] || fail "lost at submission $at it ends with $code: $(cat err)"
    grep -q 'done at step 8' out || fail "lost at submission $at it is not done: $(cat out)"
    again=$(grep -c '^opening it again: vulkan:0$' err)
    met=$((met + again))
    [ "$again" -eq 0 ] || grep -q 'vulkan:0.*lost' err || fail "why it is opened again: $(cat err)"
    [ "$(digest "once-$at")" = "$(digest straight)" ] || fail "lost at submission $at it ends with other weights"
done
echo "lost once: opened again $met times of 4"
[ "$met" -eq 4 ] || fail "the device was lost $met times"

# Twice: once more after it was opened again.
train twice 40,60
[ "$code" -eq 1 ] || fail "lost twice it ends with $code, not 1: $(cat out err)"
[ "$(grep -c '^sid2' err)" -eq 1 ] || fail "not one line: $(cat err)"
grep -q '^sid2.*vulkan:0.*lost' err || fail "why it ended: $(cat err)"
[ "$(grep -c '^opening it again' err)" -eq 1 ] || fail "opened more than once: $(cat err)"
"$sid2" info --verify twice >/dev/null 2>err || fail "nothing sound was saved: $(cat err)"
train twice ''
[ "$code" -eq 0 ] || fail "it does not go on: $(cat err)"
[ "$(digest twice)" = "$(digest straight)" ] || fail "lost twice and gone on, it has other weights"

exit $((failures > 0))
