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

[ "$failures" -eq 0 ]
