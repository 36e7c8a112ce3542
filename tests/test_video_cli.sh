#!/usr/bin/env bash
# Clips from outside: made, packed, measured. Usage: test_video_cli.sh SID2
set -u
sid2=$1
. "$(cd "$(dirname "$0")" && pwd)/workplace.sh"
export OMP_NUM_THREADS=2

echo "== moving shapes"
expect 0 '12 clips of 9 frames, 32x32' data synth --kind moving-shapes --out clips.tar --count 12 --frames 9
expect 2 'clips.tar: exists; name a new one' data synth --kind moving-shapes --out clips.tar --count 12
expect 2 "should end in .tar" data synth --kind moving-shapes --out clips.zip
expect 2 "should be scenes or moving-shapes" data synth --kind shapes --out x.tar
expect 2 "frames is for --kind moving-shapes" data synth --frames 4 --out x.zip
expect 0 '12 clips' data synth --kind moving-shapes --out again.tar --count 12 --frames 9
cmp clips.tar again.tar || fail "the same clips make another file"
mkdir unpacked && tar -xf clips.tar -C unpacked || fail "tar does not read clips.tar"
[ "$(find unpacked -name '*.png' | wc -l)" -eq $((12 * 9)) ] || fail "not all frames are there"
for set in clips.tar unpacked; do
    expect 0 '^12 clips of 12 real ones, frames 4 to 9' eval motion $set --against clips.tar --given 3 --frames 9
    [ "$(awk '$1 == "all" {print ($2 < 0.1 && $3 > 1)}' out)" = 1 ] || fail "the real clips are where they are: $(cat out)"
done
expect 0 '"real_clips": 24' eval motion clips.tar --against clips.tar --given 2 --frames 4 --json
expect 2 'given should be 2 to 8' eval motion clips.tar --against clips.tar --given 9 --frames 9
expect 2 'none has 10 frames' eval motion clips.tar --against clips.tar --given 3 --frames 10
rm unpacked/*/0000003/clip.json
expect 2 'has no clip.json' eval motion clips.tar --against unpacked --given 3 --frames 9

echo "== trained and gone on from"
small=(--set model.image_size=8 --set model.frames=4 --set model.given=2 --set model.channels=8,16 --set model.blocks=res,transformer
    --set model.depth=1 --set model.mid_depth=1 --set model.emb=16 --set model.head_dim=8 --set model.groups=4 --set train.batch=4
    --set train.sample_count=2 --set train.sample_steps=2 --set train.holdout=2 --set eval.levels=2 --set sample.steps=4 --device cpu)
expect 0 '' train --preset moving-shapes --data clips.tar --out run --set train.steps=3 --set train.sample_every=3 --set train.eval_every=3 "${small[@]}"
grep -q 'held-out loss' err || fail "clips are not held out: $(cat err)"
python3 - run/samples/step-00000003.png <<'END' || fail "the grid of samples is not one row a clip"
import struct, sys
width, height = struct.unpack(">2I", open(sys.argv[1], "rb").read()[16:24])
sys.exit((width, height) != (4 * 10 + 2, 2 * 10 + 2))
END
expect 0 '^3 clips in ' sample run --given clips.tar --seeds 0-2 --out next.png --device cpu
expect 0 '^3 clips in ' sample run --given clips.tar --seeds 0-2 --frames 9 --out long.png --device cpu
python3 - next.png 4 long.png 9 <<'END' || fail "clips are not as long as was asked for"
import struct, sys
for name, frames in zip(sys.argv[1::2], sys.argv[2::2]):
    data = open(name, "rb").read()
    at = data.index(b"acTL")
    if struct.unpack(">I", data[at + 4:at + 8])[0] != int(frames):
        sys.exit(f"{name} has not {frames} frames")
END
expect 0 '^2 clips in ' sample run --seeds 0-1 --out free --device cpu
[ "$(find free -name '*.png' | wc -l)" -eq 2 ] || fail "a clip is not a file"
expect 2 'makes clips: --out' sample run --out x.jpg --device cpu
expect 2 'frames: the model can make 1 to' sample run --frames 1000 --seeds 0 --set model.given=0 --out x.png --device cpu
expect 2 'goes on from nothing' sample run --given clips.tar --set model.given=0 --out x.png --device cpu
expect 1 'missing.y4m' sample run --given missing.y4m --out x.png --device cpu

[ "$failures" -eq 0 ]
