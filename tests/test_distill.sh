#!/usr/bin/env bash
# sid2 distill from outside: a student is a run and a checkpoint as any other. Usage: test_distill.sh SID2
set -u
sid2=$1
source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/tests/workplace.sh"
export OMP_NUM_THREADS=2

expect 0 '' data synth --out pictures.zip --count 48 --size 32
teaching=(train --device cpu --threads 2 --preset quickstart --data pictures.zip
    --set model.channels=16,16 --set model.blocks=res,res --set model.depth=1 --set model.mid_depth=1 --set model.emb=32
    --set model.groups=4 --set model.patch=4 --set train.batch=8 --set train.steps=8 --set train.precision=f32
    --set train.sample_every=0 --set train.eval_every=0 --set train.log_every=2 --set sample.guidance=3 --set sample.sampler=dpm2m)
expect 0 'done at step 8' "${teaching[@]}" --out teacher
student=(distill teacher --device cpu --threads 2 --steps 4 --guidance 1.5 --interval -3,4 --data pictures.zip
    --set train.steps=6 --set train.warmup=2 --set train.checkpoint_every=3 --set train.sample_every=3 --set train.sample_count=4
    --set train.keep=0 --set train.learning_rate=1e-3)

expect 0 '' export teacher --out small
echo "== a run as any other"
expect 0 'done at step 6 of 6' "${student[@]}" --out straight
grep -q '^teacher  teacher/checkpoints/step-00000008$' err || fail "the teacher is not named: $(cat err)"
grep -q '^student  of 4 steps, the teacher guided by 1.5 at logSNR -3,4$' err || fail "the student is not described: $(cat err)"
for file in teacher step-00000003 step-00000006; do [ -s "straight/samples/$file.png" ] || fail "no samples/$file.png"; done
for file in ema weights optimizer teacher.weights auxiliary.weights auxiliary.optimizer; do
    [ -s "straight/checkpoints/step-00000006/$file.safetensors" ] || fail "no $file.safetensors"
done
expect 0 'is complete at step 6' "${student[@]}" --out straight
expect 0 '' report straight
[ "$(grep -c "alt='samples, the teacher'" straight/report.html)" -eq 1 ] || fail "the report does not show the teacher"
expect 0 'complete  *6/6' status straight

rm straight/samples/teacher.png # as where a start was cut off
expect 0 'done at step 7 of 7' "${student[@]}" --out straight --set train.steps=7
[ -s straight/samples/teacher.png ] || fail "the teacher's samples are not made up for"
rm -r straight
expect 0 'done at step 6 of 6' "${student[@]}" --out straight
expect 0 'done at step 2 of 2' distill teacher --device cpu --steps 1 --data pictures.zip --out one --set train.steps=2
expect 0 '' sample one --device cpu --seeds 0 --out one.png
expect 0 'done at step 2 of 2' distill small --device cpu --data pictures.zip --out of-export --set train.steps=2

echo "== it is sampled without flags"
for setting in 'steps = 4' 'sampler = ddim' 'grid = uniform' 'gamma = 0' 'guidance = 1' 'interval = always'; do
    sed -n '/^\[sample\]/,$p' straight/checkpoints/step-00000006/config.ini | grep -q "^$setting\$" || fail "config.ini does not say $setting"
done
expect 0 '' sample straight --device cpu --seeds 0-3 --out plain.png
expect 0 '' sample straight --device cpu --seeds 0-3 --out told.png --steps 4 --sampler ddim --grid uniform --set sample.gamma=0 --guidance 1
"$sid2" sample --like plain.png --device cpu --out again.png >out 2>err || fail "the picture cannot be made again: $(cat err)"
python3 - plain.png told.png <<'END' || fail "without flags the pictures are others"
import sys, zlib
def pixels(name):
    data, at, body = open(name, "rb").read(), 8, b""
    while at < len(data):
        size, kind = int.from_bytes(data[at:at + 4], "big"), data[at + 4:at + 8]
        body, at = body + (data[at + 8:at + 8 + size] if kind == b"IDAT" else b""), at + size + 12
    return zlib.decompress(body)
sys.exit(pixels(sys.argv[1]) != pixels(sys.argv[2]))
END
expect 0 '' export straight --out given-away
expect 0 '' sample given-away --device cpu --seeds 0-3 --out small.png

echo "== resuming gives the same bits"
for file in ema teacher.weights auxiliary.weights auxiliary.optimizer optimizer; do
    cp "straight/checkpoints/step-00000006/$file.safetensors" "$file.whole"
done
cp -r straight half
rm -r half/checkpoints/step-00000006
expect 0 'done at step 6 of 6' train --device cpu --threads 1 --out half
for file in ema teacher.weights auxiliary.weights auxiliary.optimizer optimizer; do
    cmp "half/checkpoints/step-00000006/$file.safetensors" "$file.whole" || fail "$file is another after resuming"
done
cmp <(grep -o '"loss": [^,]*' straight/stats.jsonl) <(grep -o '"loss": [^,]*' half/stats.jsonl) || fail "statistics differ"

echo "== what is refused"
expect 1 'distill: nothing: No such file' distill nothing --data pictures.zip --out no
expect 1 'distill: pictures.zip: no complete checkpoint' distill pictures.zip --data pictures.zip --out no
expect 2 "distill.first = 5: must be at most distill.k = 4" distill teacher --device cpu --steps 4 --data pictures.zip --out no --set distill.first=5
mkdir empty
expect 1 'distill: empty: no complete checkpoint' distill empty --data pictures.zip --out no
expect 2 'TEACHER is missing' distill --data pictures.zip --out no
expect 0 '' "${teaching[@]}" --out other --set train.steps=2
expect 2 'half learns from other weights than those of other/checkpoints/step-00000002 now: sid2 train --out half goes on' \
    distill other --steps 4 --guidance 1.5 --interval -3,4 --data pictures.zip --out half --set train.steps=7
expect 2 '--out is missing' distill teacher --data pictures.zip
expect 2 'the data is missing' distill teacher --out no
expect 2 '--steps should be 1 to 1000' distill teacher --steps 0 --data pictures.zip --out no
expect 2 'distill.k = 1001: expected' distill teacher --steps 1001 --data pictures.zip --out no
expect 2 'has model.emb=32, not 64' distill teacher --set model.emb=64 --data pictures.zip --out no
expect 2 'has schedule.low=.*, not 64' distill teacher --set schedule.low=64 --data pictures.zip --out no
expect 2 'was begun with distill.k=4, not 8' distill teacher --steps 8 --data pictures.zip --out straight
expect 2 'to learn from what' train --preset straight/config.ini --data pictures.zip --out no
expect 2 'straight.* is a student itself (distill.k = 4)' distill straight --data pictures.zip --out no
mkdir -p other/one other/two
"$sid2" sample teacher --device cpu --seeds 0-1 --steps 1 --out other/one --guidance 1 >/dev/null 2>&1
cp other/one/*.png other/two
expect 2 'knows other classes than other has' distill teacher --data other --out no
[ ! -e no ] || fail "what was refused left something"
expect 1 'needs at least' distill teacher --memory 100K --device cpu --data pictures.zip --out no
[ ! -e no ] || fail "what does not fit left something"

[ "$failures" -eq 0 ] && echo "all good"
exit $((failures != 0))
