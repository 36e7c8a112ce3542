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
expect 0 '"real_clips": 12' eval motion clips.tar --against clips.tar --given 2 --frames 4 --json
expect 2 'given should be 2 to 8' eval motion clips.tar --against clips.tar --given 9 --frames 9
expect 2 'none has 10 frames' eval motion clips.tar --against clips.tar --given 3 --frames 10
rm unpacked/*/0000003/clip.json
expect 2 'has no clip.json' eval motion clips.tar --against unpacked --given 3 --frames 9

echo "== data pack --clips"
# film FRAMES: a y4m of 10 x 6, 24 frames a second; of frame n all is n.
film() {
    printf 'YUV4MPEG2 W10 H6 F24:1 It C420jpeg XCOLORRANGE=FULL\n'
    for ((n = 0; n < $1; n++)); do
        printf 'FRAME\n'
        # shellcheck disable=SC2059
        { printf "\\$(printf %o "$((n + 33))")%.0s" {1..60}; printf '\200%.0s' {1..30}; }
    done
}
film 11 >film.y4m
expect 0 '^2 clips of 4 frames, 10x6' data pack --clips 4 --out film.tar film.y4m
film 11 | "$sid2" data pack --clips 4 --out pipe.tar - >out 2>err || fail "a pipe is not packed: $(cat err)"
grep -q '^2 clips of 4 frames, 10x6' out && grep -q 'interlaced' out || fail "a pipe is not packed: $(cat out)"
[ "$(tar -tf pipe.tar | tr '\n' ' ')" = "$(printf 'video@%08d/%s ' 0 0000.png 0 0001.png 0 0002.png 0 0003.png 0 clip.json 4 0000.png 4 0001.png 4 0002.png 4 0003.png 4 clip.json)" ] || fail "pipe.tar is otherwise: $(tar -tf pipe.tar)"
[ "$(tar -xOf pipe.tar video@00000004/clip.json)" = '{"rate": [24, 1]}' ] || fail "the frame rate is lost"
cmp <(tar -xOf pipe.tar video@00000004/0002.png) <(tar -xOf film.tar film@00000004/0002.png) || fail "a pipe gives other frames than the file"
film 11 | "$sid2" data pack --clips 3 --stride 2 --size 8 --count 1 --out one.tar - >out 2>err || fail "$(cat err)"
grep -q '^1 clips of 3 frames, 8x8' out || fail "--count, --stride, --size: $(cat out)"
expect 0 '^2 clips of 3 frames, 8x8' data pack --clips 3 --size 8 --out again2.tar pipe.tar # pieces keep their names
tar -tf again2.tar | grep -q '^video@00000003/' && fail "a clip runs from one piece into the next"
tar -tf again2.tar | grep -q '^video@00000004/0001.png$' || fail "pieces lose their names: $(tar -tf again2.tar)"
film 5 | head -c 300 | "$sid2" data pack --clips 2 --out cut.tar - >out 2>err || fail "$(cat err)"
grep -q '^left out   standard input: y4m: cut short in frame 2' out && grep -q '^1 clips' out || fail "a pipe that ends: $(cat out)"
piped() { # PATTERN: what standard input is refused for
    timeout 20 "$sid2" data pack --clips 4 --out refused.tar - >out 2>err
    [ $? -eq 1 ] || fail "should be refused: $1"
    grep -q "^sid2 data pack: .*$1" err || fail "nothing says '$1': $(cat err)"
    [ ! -e refused.tar ] || fail "refused.tar is there"
}
piped 'is empty' </dev/null
piped 'does not begin with YUV4MPEG2' < <(yes)
piped 'first line does not end' < <(printf 'YUV4MPEG2 '; yes | tr '\n' ' ')
piped 'too large' < <(printf 'YUV4MPEG2 W60000 H60000\nFRAME\n')
piped 'C420p10 are not read' < <(printf 'YUV4MPEG2 W6 H6 C420p10\nFRAME\n')
expect 1 'a pipe or a device' data pack --clips 4 --out refused.tar /dev/zero
expect 2 'should end in .tar' data pack --clips 4 --out x.zip film.y4m
expect 2 'none has 12 frames' data pack --clips 12 --out x.tar film.y4m
expect 2 'should be bt601 or bt709' data pack --clips 4 --matrix bt2020 --out x.tar film.y4m
expect 2 'is for --clips' data pack --count 4 --size 8 --out x.zip unpacked
expect 2 'film.tar: exists' data pack --clips 4 --out film.tar film.y4m

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
expect 0 '' report run
[ "$(grep -o 'data-frames=4 data-given=2 data-height=8' run/report.html | wc -l)" -eq 2 ] && grep -q 'how they really go on' run/report.html ||
    fail "the report does not play clips beside real ones"
expect 0 '^3 clips in ' sample run --given clips.tar --seeds 0-2 --out next.png --device cpu
expect 0 '^3 clips in ' sample run --given clips.tar --seeds 0-2 --frames 9 --out long.png --device cpu
# made again from what the files say: also the third of a folder, which began with the third video
expect 0 'as long.png, to the bit' sample --like long.png --out again.png
cmp long.png again.png || fail "--like makes another clip"
expect 0 '^3 clips in ' sample run --given clips.tar --seeds 0-2 --out each --device cpu
expect 0 'as each/000002.png, to the bit' sample --like each/000002.png --out again.png
cmp each/000002.png again.png || fail "--like begins with another video"
mv clips.tar moved.tar
expect 1 "long.png goes on from 'clips.tar' (--given names another place): clips.tar: No such file" sample --like long.png --out again.png
expect 0 'as long.png, to the bit' sample --like long.png --given moved.tar --out again.png
mv moved.tar clips.tar
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
expect 2 'frames: the model can make 1 to' sample run --frames 1000 --seeds 0 --set model.given=0 --guidance 1 --out x.png --device cpu
expect 2 'goes on from nothing' sample run --given clips.tar --set model.given=0 --guidance 1 --out x.png --device cpu
expect 2 'makes clips; of these sid2 sample makes files' eval fid run --against clips.tar --device cpu
expect 2 'makes clips; of these sid2 sample makes files' view run --device cpu
expect 2 'compared as pictures' eval run --data clips.tar --samples 4 --device cpu
expect 0 '' eval run --data clips.tar --device cpu
expect 1 'missing.y4m' sample run --given missing.y4m --out x.png --device cpu

echo "== what clips are written as"
expect 0 '12 clips of 2 frames' data synth --kind moving-shapes --out given.tar --count 12 --frames 2 --size 8
expect 0 '12 clips of 4 frames' data synth --kind moving-shapes --out truth.tar --count 12 --frames 4 --size 8
made=(sample run --given given.tar --device cpu)
for out in made.npz made.tar; do
    expect 0 '^24 clips in ' "${made[@]}" --seeds 0-23 --out $out
    expect 0 '^24 clips of 12 real ones, frames 3 to 4' eval motion $out --against truth.tar --given 2 --frames 4
    mv out motion-$out
done
cmp motion-made.npz motion-made.tar || fail "an npz and a tar hold other clips"
expect 0 '12 clips of 9 frames' data synth --kind moving-shapes --out longer.tar --count 12 --frames 9 --size 8
for out in made.npz made.tar; do
    expect 0 '^24 clips of 12 real ones, frames 3 to 4' eval motion $out --against longer.tar --given 2 --frames 4
    cmp out motion-made.tar || fail "$out is not compared with the beginnings of longer clips"
done
grep -q 'mean of seeds' motion-made.npz || fail "two clips of each are not averaged"
[ "$(tar -xOf made.tar 000003/clip.json)" = '{"rate": [10, 1]}' ] || fail "the frame rate of what was given is lost"
python3 - made.npz <<'END' || fail "an npz of clips has not their shape"
import sys, zipfile
sys.exit(b"(24, 4, 8, 8, 3)" not in zipfile.ZipFile(sys.argv[1]).read("arr_0.npy")[:128])
END
expect 0 '^1 clip in ' "${made[@]}" --seeds 5 --out five.y4m
[ "$(head -n 1 five.y4m)" = 'YUV4MPEG2 W8 H8 F10:1 Ip A1:1 C444 XCOLORRANGE=FULL' ] || fail "five.y4m begins otherwise"
[ "$(wc -c <five.y4m)" -eq $((52 + 4 * (6 + 3 * 64))) ] || fail "five.y4m has another length: $(wc -c <five.y4m)"
"$sid2" "${made[@]}" --seeds 5 --out - --format y4m 2>/dev/null | cmp - five.y4m || fail "standard output holds another y4m"
expect 0 '^1 clip in ' "${made[@]}" --seeds 5 --out five.png --format strip
expect 0 '^2 clips in ' "${made[@]}" --seeds 5,6 --out five --format frames
expect 0 '^1 clips of 4 frames, 8x8' data pack --clips 4 --out strip.tar five.png
cmp <(tar -xOf strip.tar five@00000000/0003.png) five/000005/0003.png || fail "a strip holds other frames"
cmp five/000005/0003.png <(tar -xOf made.tar 000005/0003.png) || fail "frames are other than in a tar"
expect 0 '^1 clip in ' "${made[@]}" --seeds 5 --out marked.png
expect 0 '^1 clip in ' sample run --seeds 5 --out free.png --device cpu
python3 - marked.png 12 free.png 8 <<'END' || fail "the frames given are not marked"
import struct, sys
for name, side in zip(sys.argv[1::2], sys.argv[2::2]):
    data = open(name, "rb").read()
    at = data.index(b"fcTL")
    if struct.unpack(">2I", data[16:24]) != (int(side), int(side)) or struct.unpack(">2H", data[at + 24:at + 28]) != (1, 10):
        sys.exit(f"{name}: another side than {side}, or another rate")
END
expect 2 'makes clips of 4 frames; FVD judges those of 9' eval fvd run --against truth.tar
expect 2 'against is missing' eval fvd run --statistics x.npz
expect 2 'is no checkpoint and no run' eval fvd made.npz --against truth.tar --raw
expect 2 'is no y4m, as --format says' "${made[@]}" --out x.png --format y4m
expect 2 'should be png, jpeg, webp or npz, or of clips' "${made[@]}" --format mp4
expect 2 'is for JPEG and WebP' "${made[@]}" --out x.tar --quality 90

[ "$failures" -eq 0 ]
