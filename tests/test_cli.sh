#!/usr/bin/env bash
# The program from outside: its exit codes, its one-line messages, its files. Usage: test_cli.sh SID2
set -u
sid2=$1
source=$(cd "$(dirname "$0")/.." && pwd)
. "$source/tests/workplace.sh"
export OMP_NUM_THREADS=2

# shellcheck disable=SC2054
small=(--device cpu --threads 2 --preset quickstart --data pictures --set model.channels=16,16 --set model.blocks=res,res
    --set model.depth=1 --set model.mid_depth=1 --set model.emb=32 --set model.groups=4 --set model.patch=4
    --set train.batch=8 --set train.sample_every=0 --set train.eval_every=0 --set train.log_every=2 --set train.precision=f32)

echo "== help and usage"
expect 0 'Usage: sid2 COMMAND' --help
expect 0 '^sid2 [0-9]' --version
for command in train distill sample status pause info eval 'eval fid' 'eval fvd' 'eval motion' 'eval features' 'eval convert-inception' 'eval convert-i3d' ablate report 'data synth' 'data inspect' 'data pack' devices check bench; do
    read -ra words <<<"$command"
    expect 0 "Usage: sid2 $command" "${words[@]}" --help
    expect 2 'unknown option' "${words[@]}" --no-such-option
done
expect 0 '^  train.learning_rate=1e-4  *Adam' help train
[ "$("$sid2" help train | grep -cE '^  [a-z]+\.[a-z_0-9]+=')" -eq "$(grep -cE '^KEY(_[A-Z]+)?\(' "$source/model/config.def")" ] || fail "sid2 help train does not list all keys"
expect 2 "unknown command 'trian'; did you mean 'train'?" trian
expect 2 "unknown command 'exprot'; did you mean 'export'?" help exprot
expect 2 "unknown option '--sedes=3'; did you mean '--seeds'?" sample x --sedes=3
expect 2 "no preset or file 'cifar01'; did you mean 'cifar10'; presets: " info --preset cifar01
expect 2 "unknown command 'foo'" help foo
expect 0 'Usage: sid2 data synth' help data synth
expect 2 'CHECKPOINT is missing' sample
expect 2 -- '--data is missing' ablate weighting
expect 2 "no plan or file 'wieghting'; did you mean 'weighting'; plans: average, bias" ablate wieghting --data x --out y
expect 2 'needs a value' sample x --seeds
expect 2 'unexpected argument' sample x y
expect 2 'CHECKPOINT is missing' view
expect 2 'PATH is missing' eval fid
expect 2 -- '--against is missing' eval fid x
expect 2 'should be 1 to 32' eval fid x --against y --repeat 33
expect 2 'OTHER is missing' eval features x.npz
expect 2 -- '--out is missing' train --preset quickstart
expect 2 'key=value' train --out x --set nonsense
expect 2 'should be a size' train --out x --memory lots
expect 2 'should be synth, inspect or pack' data forge
expect 2 'model.nonsense' info --preset quickstart --set model.nonsense=1
expect 2 'either PATH or --preset' info
expect 2 'nosuch' info --preset nosuch
expect 2 'no GPU .v100. in the table; there are a100' plan --gpu v100
expect 2 'ranks should be 1 to' plan --ranks 0
expect 2 'node should be a power of two' plan --node 6
expect 2 'share should be' plan --share 2
expect 2 '64 ranks want as many lanes' plan --preset quickstart --ranks 64
expect 1 'nosuch.json' plan --measured nosuch.json
expect 2 'should be pytorch' bench --against tensorflow
expect 2 'rows .* should be of train' bench --rows train,x
expect 2 'rows distill, inception and i3d go with --against' bench --rows inception
expect 2 'rows distill, inception and i3d go with --against' bench --rows distill
expect 2 'dtype .* should be f32' bench --dtype f32,f8
expect 2 'give --against' bench --compile
expect 2 'only with --scaling' bench --threads 1,2
expect 2 'should be 1 to 1024' bench --scaling --threads 0
expect 2 'predict should be 1 to 1024' bench --scaling --predict 8,0
expect 2 'predict goes with --scaling' bench --predict 8
expect 2 'predict is of training on the CPU' bench --scaling --predict 8 --rows sample
expect 2 'predict is of training on the CPU' bench --scaling --predict 8 --device vulkan:0
expect 2 'sockets should be 1 to 8' bench --scaling --predict 8 --sockets 9
expect 2 'rows train and sample' bench --scaling --rows ops
expect 2 'exchange is of several ranks' bench --exchange
expect 2 'exchange goes without' bench --exchange --scaling
expect 2 'load is at most' bench --load 1000
loader=$(ldd "$sid2" | grep -o '/[^ ]*ld-[^ ]*\.so[^ ]*' | head -n 1) # as Nix, AppImages and debuggers start programs
"$loader" "$sid2" devices >out 2>&1 && grep -q 'used where no --device is given' out || fail "$loader sid2 devices: $(tail -n 2 out)"
for page in markdown:options operators:operators; do
    "$sid2" help "--${page%:*}" >page.md || fail "sid2 help --${page%:*}"
    diff -u "$source/docs/${page#*:}.md" page.md || fail "docs/${page#*:}.md is not what sid2 help --${page%:*} prints"
done

[ "$("$sid2" devices | grep -c '<- used')" -eq 1 ] || fail "sid2 devices marks one device"

echo "== features and judges"
# numpy's arrays of floats, by hand: rows of two numbers each
python3 - <<'END' || fail "no python3"
import struct, zipfile
def put(path, rows):
    head = "{'descr': '<f4', 'fortran_order': False, 'shape': (%d, 2), }" % len(rows)
    head += " " * (117 - len(head)) + "\n"
    with zipfile.ZipFile(path, "w") as z:
        z.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() +
                   b"".join(struct.pack("<2f", *row) for row in rows))
grid = [(float(i % 8), float(i // 8)) for i in range(64)]
put("real.npz", grid)
put("moved.npz", [(x + 3, 2 * y) for x, y in grid])
put("few.npz", grid[:3])
with zipfile.ZipFile("statistics.npz", "w") as z:
    for name, shape in ("mu", (2,)), ("sigma", (2, 2)):
        head = ("{'descr': '<f8', 'fortran_order': False, 'shape': %r, }" % (shape,)).ljust(117) + "\n"
        z.writestr(name + ".npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() + bytes(8 * 2 ** len(shape)))
put("broken.npz", grid[:7] + [(float("nan"), 0.0)])
with zipfile.ZipFile("clip.npz", "w") as z:
    head = "{'descr': '|u1', 'fortran_order': False, 'shape': (1, 16, 4, 4, 3), }".ljust(117) + "\n"
    z.writestr("clips.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() + bytes(16 * 48))
END
# variances are 64/63 * 5.25: 3^2 + (3.5)^2 + (2 - 1)^2 of that
expect 0 '"frechet_distance": 26.5833' eval features real.npz moved.npz --json
expect 0 '"frechet_distance": 0\.0*' eval features real.npz real.npz --json
expect 0 'Fréchet distance   26.583' eval features real.npz moved.npz
expect 1 'number 0 of row 7 is not finite' eval features real.npz broken.npz
expect 2 'too few' eval features real.npz few.npz
expect 1 'no such file' eval features real.npz nowhere.npz
expect 1 'holds no array y' eval features real.npz moved.npz --array y
export XDG_CACHE_HOME=$PWD/cache
unset SID2_INCEPTION SID2_I3D
expect 2 "no weights of FID's Inception: sid2 eval convert-inception" eval fid real.npz --against real.npz
expect 1 'No such file' eval fid real.npz --against real.npz --weights nowhere.safetensors
expect 1 'a pickle that wants "posix system"' eval convert-inception "$source/tests/fuzz/corpus/weights/call.pth"
expect 1 "not the weights of FID's Inception" eval convert-inception "$source/tests/fuzz/corpus/weights/zip.pth"
expect 1 'neither PyTorch' eval convert-inception "$source/README.md"
[ ! -e cache/sid2/inception.safetensors ] || fail "a file of weights that are none"
expect 1 "not the weights of FVD's I3D" eval convert-i3d "$source/tests/fuzz/corpus/weights/zip.pth"
expect 1 'a pickle that wants "posix system"' eval convert-i3d "$source/tests/fuzz/corpus/weights/call.pth"
[ ! -e cache/sid2/i3d.safetensors ] || fail "a file of weights that are none"
expect 2 "no weights of FVD's I3D: sid2 eval convert-i3d" eval fvd clip.npz --against clip.npz
expect 2 'of 1 videos none has 17 frames' eval fvd clip.npz --against clip.npz --frames 17
expect 2 '\-\-frames should be 9 to 4096' eval fvd clip.npz --against clip.npz --frames 8
expect 2 '\-\-against is missing' eval fvd clip.npz
expect 1 'clips are u8' eval fvd clip.npz --against real.npz
expect 1 'mu should have 400 numbers' eval fvd clip.npz --against statistics.npz
unset XDG_CACHE_HOME
rm -rf cache

echo "== check"
expect 0 'all 2 checks passed' check --device cpu --op add,linear --dtype f32 --cases 2
expect 0 '^linear  *0\.[0-9]*  *0\.[0-9]*  *pass' check --device cpu --op linear --dtype f32,bf16 --cases 2
expect 0 '"pass": true' check --device cpu --op adam --cases 1 --json -
expect 0 'passed' check --device reference --op adam --cases 1 --json report.json
[ "$(grep -c '"operator": "adam"' report.json)" -eq 3 ] || fail "the report of sid2 check has a row for each type"
if "$sid2" devices | grep -q '^vulkan:0'; then expect 0 'checks passed' check --device vulkan:0 --op random_normal,linear --cases 1; fi
expect 2 "no operator 'adda'" check --device cpu --op adda
expect 2 'does not compute in f16' check --device cpu --dtype f16
expect 2 'should be of f32' check --device cpu --dtype f8
expect 2 'cases should be 1' check --device cpu --cases 0
expect 2 'nosuch' check --device nosuch
expect 0 'passed' check --device cpu --op adam --cases 1 --json deep/report.json
expect 1 'deep: cannot be written: Is a directory' check --device cpu --json deep
[ -s deep/report.json ] || fail "the folder of sid2 check's report was not made"

echo "== what comes from others is printed plain"
mkdir -p "escapes/$(printf 'a\033[2Jb')" "escapes/$(printf 'c\302\2332Jd')" "escapes/$(printf 'e\nf')" "escapes/$(printf 'g\377h')"
"$sid2" data synth --out seed --count 4 >/dev/null
for folder in escapes/*; do cp "$(find seed -name '*.png' | head -n 1)" "$folder/$(printf 'x\033y').png"; done
echo garbage >"escapes/$(printf 'e\nf')/$(printf 'z\033z').png"
expect 0 'c??2Jd' data inspect escapes
LC_ALL=C grep -qE "$(printf '\033|\302\233|\377')" out err && fail "names of classes and pictures reach the terminal as they are"
grep -q 'a?\[2Jb' out && grep -q 'e?f' out && grep -q 'g?h' out || fail "names of classes are not made plain: $(cat out)"
expect 1 'no?where' info "$(printf 'no\033where')"
# Nothing passes print_to by: texts in variables only through its %s, JSON in ASCII, and no word from the library.
(
    cd "$source" || exit 1
    ! grep -nE '#undef f?printf|\bv?dprintf\(|\bvf?printf\(|\bf?puts\([a-z_]+[][a-z_.>-]*[,)]|fwrite\(.*(stdout|stderr)' cli/*.c | grep -v '^cli/print.c'
) >passes || fail "print_to is passed by: $(cat passes)"
(cd "$source" && ! grep -n 'json_dumpf(' cli/*.c | grep -v JSON_ENSURE_ASCII) >passes || fail "JSON that is not ASCII: $(cat passes)"
(cd "$source" && ! grep -rnE '\b(printf|puts|perror)\(|\b(stdout|stderr)\b' core model data run lib cpu vk --include='*.[ch]') >passes ||
    fail "the library prints: $(cat passes)"

"$sid2" help --markdown >out
grep -E '[.;]\?$|\| +\(' out && fail "help prints what is no character, or words that are not there"

echo "== standard streams"
for arguments in --help 'help --markdown' 'info --preset quickstart' 'info --preset quickstart --json' devices; do
    read -ra words <<<"$arguments"
    "$sid2" "${words[@]}" >/dev/full 2>err
    [ $? -eq 1 ] || fail "sid2 $arguments >/dev/full should end with 1"
    [ "$(grep -c '^sid2.*standard output: No space' err)" -eq 1 ] || fail "sid2 $arguments >/dev/full: $(cat err)"
done
set -o pipefail
"$sid2" help --markdown | head -n 1 >out || fail "a reader that goes away is no failure"
set +o pipefail
"$sid2" data synth --out closed --count 20 <&- >&- 2>&- || fail "sid2 data synth with closed streams"
expect 0 'pictures   20' data inspect closed

# ends_in_order WHAT NAME JOB: a job that got a signal ends with 1, says so in err, and leaves no NAME*.
ends_in_order() {
    wait "$3"
    [ $? -eq 1 ] || fail "an interrupted $1 should end with 1"
    grep -q 'stopped; nothing was written' err || fail "an interrupted $1 should say so: $(cat err)"
    [ -z "$(find . -maxdepth 1 -name "$2*")" ] || fail "an interrupted $1 left something behind"
}

echo "== data"
expect 0 '200 pictures, 10 classes' data synth --out pictures --count 200
expect 2 'pictures' data synth --out pictures --count 200
expect 0 '20 pictures' data synth --out few.zip --count 20
expect 2 'few.zip: exists; name a new one' data synth --out few.zip --count 20
for out in three three.zip; do
    expect 0 '3 pictures, 3 classes' data synth --out $out --count 3
    expect 0 'classes    3' data inspect $out
done
for out in stopped-synth stopped-synth.zip; do
    "$sid2" data synth --out $out --count 1000000 --size 128 >/dev/null 2>err &
    job=$!
    sleep 0.5
    kill -TERM "$job"
    ends_in_order 'sid2 data synth' stopped-synth "$job"
done
expect 0 'pictures   200' data inspect pictures --out sheet.png
[ "$(head -c 4 sheet.png | tail -c 3)" = PNG ] || fail "sheet.png is no PNG"
expect 1 'nowhere' data inspect nowhere
mkdir taken.png
expect 1 'taken.png: cannot be written: Is a directory' data inspect pictures --out taken.png
mkdir empty
expect 1 'empty' data inspect empty
cp -r pictures broken
echo garbage >"$(find broken -name '*.png' | sort | head -n 1)"
expect 0 'pictures   199 .*1 more were broken' data inspect broken
[ "$(grep -c 'left out' err)" -eq 1 ] || fail "a broken picture is named once"
[ "$(awk '/^ +[0-9]+ +[0-9]/ { n += $2 } END { print n }' out)" -eq 199 ] || fail "the classes count a broken picture"
expect 2 'shown should be 1' data inspect pictures --out no.png --shown 0
expect 2 'should end in .png' data inspect pictures --out no.jpg
expect 2 "upright 'left' should be auto, yes or no" data inspect pictures --upright left
expect 2 'lower --shown or --size' data inspect pictures --out no.png --size 4096

# needs ARGUMENTS...: a limit that is refused names one that works.
needs() {
    expect 1 'more than the 0.125 MiB allowed' "$@" --memory 128K
    local least
    least=$(sed -n 's/.* needs \(at least \)\?\([0-9]*\) MiB.*/\2/p' err)
    expect 0 . "$@" --memory "${least}MiB"
}

echo "== info"
expect 0 'multiply-adds' info --preset imagenet128-2
expect 2 'have 1 or 3' info --preset quickstart --set model.image_channels=2
expect 0 '"block_multiply_adds"' info --preset imagenet128-2 --json
expect 0 'most is alive here' info --preset quickstart --plan
expect 1 'at least' info --preset imagenet128-2 --memory 1MiB
expect 1 'nowhere' info nowhere
head -c 5 /dev/zero >zeros
printf '\211PNG\r\n\032\n' >one.png
: >empty.ini
for file in zeros one.png; do expect 1 "$file: not a text file, so no configuration" info "$file"; done
expect 1 'empty.ini: no configuration: it sets no key' info empty.ini

echo "== train"
expect 2 'preset is missing' train --out run
expect 2 'preset is missing.* is proposed' train --data pictures --out run --device cpu --threads 2
grep -q '^data     200 pictures, 10 classes' out && grep -q 'quickstart .* s .*<- proposed' out &&
    grep -q 'photos64 .*64x64 .* s .*for 500 pictures and more' out && grep -q '^sid2 train --preset quickstart --data pictures --out run$' out ||
    fail "a preset should be proposed, with times: $(cat out)"
expect 1 'nowhere' train --data nowhere
expect 2 'data is missing' train --preset quickstart --out run
expect 1 'nowhere' train --preset quickstart --data nowhere --out run
expect 1 'empty' train --preset quickstart --data empty --out run
expect 2 'nosuch' train --preset quickstart --data pictures --out run --device nosuch
expect 1 'at least' train "${small[@]}" --out run --memory 100K
expect 2 'model.classes' train "${small[@]}" --out run --set model.classes=3
[ ! -e run ] || fail "a refused training left its folder behind"
expect 0 'done at step 8' train "${small[@]}" --out run --set train.steps=8 --set train.checkpoint_every=2
[ "$(find run/checkpoints -mindepth 1 | grep -c 'step-[0-9]*$')" -eq 2 ] || fail "two checkpoints are kept"
[ "$(wc -l <run/stats.jsonl)" -eq 5 ] || fail "a line of statistics for the first step, and for each second one"
expect 0 'complete at step 8' train "${small[@]}" --out run --set train.steps=8
expect 2 'train.batch=8, not 4' train "${small[@]}" --out run --set train.batch=4
expect 0 'done at step 12' train "${small[@]}" --out run --set train.steps=12 --set train.checkpoint_every=0
[ "$(wc -l <run/stats.jsonl)" -eq 7 ] || fail "seven lines of statistics"
cp -r run decayed
expect 0 'train.decay=cosine, was constant' train "${small[@]}" --out decayed --set train.steps=13 --set train.decay=cosine
grep -q 'in colour, cropped at the centre; none mirrored' err || fail "the plan should say what becomes of a picture: $(cat err)"
expect 2 'train.decay = step: expected constant|cosine|linear|inverse_sqrt' train "${small[@]}" --out decayed --set train.decay=step

echo "== what may change, and what --out may be"
cp -r run/checkpoints/step-00000012 spoilt # finite weights whose sums are not
LC_ALL=C sed -i 's/xxh3_128:/xxh3_gone/g' spoilt/ema.safetensors # a file without digests
for _ in {1..64}; do printf '\377\377\177\177\377\377\177\377'; done |
    dd of=spoilt/ema.safetensors bs=1 seek=$(($(wc -c <spoilt/ema.safetensors) - 512)) conv=notrunc 2>/dev/null
expect 1 'step 1: the [a-z].* is not finite; with a lower train.learning_rate' train "${small[@]}" --out diverged --from spoilt
expect 0 'done at step 2' train "${small[@]}" --out diverged --set train.steps=2 --set train.batch=4
expect 0 'changed  train.learning_rate=0.0001, was 0.0015' train "${small[@]}" --out diverged --set train.batch=4 \
    --set train.steps=3 --set train.learning_rate=1e-4
grep -q 'learning_rate = 0.0001' diverged/config.ini || fail "the run's config.ini keeps the old learning rate"
expect 1 'nowhere' train "${small[@]}" --out new --from nowhere
[ ! -e new ] || fail "a refused start left its folder behind"
expect 2 'lies in the data' train "${small[@]}" --out pictures/new
expect 2 'train.eps = 0: expected' train "${small[@]}" --out new --set train.eps=0
expect 2 'train.eps = 1e-40: expected' train "${small[@]}" --out new --set train.eps=1e-40
expect 2 'is no run and holds' train "${small[@]}" --out pictures
expect 2 'is a checkpoint, no run' train "${small[@]}" --out run/checkpoints/step-00000012
expect 1 'Not a directory' train "${small[@]}" --out sheet.png

echo "== a damaged checkpoint, and what is not sid2's"
cp -r run damaged
mkdir damaged/checkpoints/step-00000008-best damaged/checkpoints/step-7
touch damaged/checkpoints/step-00000008-best/photo damaged/checkpoints/step-7/photo
cp -r run/checkpoints/step-00000008 damaged/checkpoints/step-00000006 # of another step than it says
truncate -s -100 damaged/checkpoints/step-00000012/weights.safetensors
expect 1 '--resume-older goes on from step-00000008' train "${small[@]}" --out damaged --set train.steps=14
expect 0 'step-00000012 is kept as .*step-00000012.damaged' train "${small[@]}" --out damaged --set train.steps=14 --resume-older
expect 0 'complete at step 14' train "${small[@]}" --out damaged --set train.steps=14
[ -e damaged/checkpoints/step-00000012.damaged/state.json ] || fail "a damaged checkpoint was removed"
for name in step-00000008-best/photo step-7/photo step-00000006/state.json; do
    [ -e damaged/checkpoints/$name ] || fail "$name, which no training made, was removed"
done
cp -r run/checkpoints/step-00000012 flipped
expect 0 'all files can be read, and agree' info flipped --verify
printf '\001' | dd of=flipped/ema.safetensors bs=1 seek=$(($(wc -c <flipped/ema.safetensors) - 9)) conv=notrunc 2>/dev/null
expect 1 'damaged' info flipped
expect 1 'damaged' sample flipped --out no.png
cp -r run renamed
sed -i 's/balloon/bAlloon/' renamed/checkpoints/step-00000012/classes.json
expect 1 'classes.json: damaged' train "${small[@]}" --out renamed --set train.steps=14
expect 1 'classes.json: damaged' sample renamed --out no.png
expect 2 'is of a checkpoint' info --preset quickstart --verify

echo "== statistics that cannot be read stay"
cp -r run stats
sed -i '1s/^{"s/{"Q/; 3s/./x/' stats/stats.jsonl # a line without a step, and one that is no JSON
cp stats/stats.jsonl before
expect 0 'stats.jsonl:1: cannot be read, and is left as it is' train "${small[@]}" --out stats --set train.steps=14
cmp <(head -n "$(wc -l <before)" stats/stats.jsonl) before || fail "statistics were changed"
[ "$(wc -l <stats/stats.jsonl)" -gt "$(wc -l <before)" ] || fail "no statistics were added"
expect 0 'report.html' report stats
sed -i '4s/"loss": 0/"loss": 7/' stats/stats.jsonl # another number
expect 0 'stats.jsonl:1: cannot be read' train "${small[@]}" --out stats --set train.steps=16
expect 0 'report.html' report stats
grep -q '3 lines of stats.jsonl cannot be read' stats/report.html || fail "a report should tell of lines that it leaves out"
cp run/stats.jsonl stats/stats.jsonl
sed -i '2s/"images": ./"images": 9/' stats/stats.jsonl
expect 0 'stats.jsonl:2: cannot be read, and is left as it is' train "${small[@]}" --out stats --set train.steps=18
sed -i 's/"device": "./"device": "?/' stats/run.json
expect 1 'run.json: damaged: its digest xxh3_128 is another' train "${small[@]}" --out stats --set train.steps=20
sed -i '/xxh3_128/d; s/\("version": .*\),$/\1/' stats/run.json # as older versions wrote it
expect 0 'done at step 20' train "${small[@]}" --out stats --set train.steps=20

echo "== only files are read as files"
cp -r run pipes
for name in stats.jsonl run.json config.ini checkpoints/step-00000012/state.json checkpoints/step-00000012/weights.safetensors; do
    rm pipes/$name
    mkfifo pipes/$name
    expect 1 '.' train "${small[@]}" --out pipes --set train.steps=14
    rm pipes/$name
    cp run/$name pipes/$name
done
mkfifo pipe
expect 1 'a pipe or a device' train "${small[@]}" --data pipe --out no
expect 1 'a pipe or a device' train "${small[@]}" --preset pipe --out no
expect 1 'a pipe or a device' info /dev/zero

echo "== without classes"
mkdir plain
find pictures -name '*.png' | head -n 40 | while read -r picture; do cp "$picture" "plain/$(echo "$picture" | tr / -)"; done
expect 0 'done at step 2' train "${small[@]}" --out classless --set model.classes=0 --set train.steps=2
expect 0 'done at step 3' train --out classless --device cpu --threads 2 --set train.steps=3
expect 0 'mean over all levels' eval classless --data pictures --levels 1 --images 4
expect 0 'done at step 2' train "${small[@]}" --out spacious --set "model.classes = 20" --set train.steps=2
grep -q '^classes = 20$' spacious/config.ini || fail "the data took the place of --set 'model.classes = 20'"
expect 2 'cannot be guided' train "${small[@]}" --out guided --set model.classes=0 --set sample.guidance=2
for steps in 2 3; do
    expect 0 "done at step $steps" train "${small[@]}" --data plain --out unlabelled --set model.classes=0 --set train.steps=$steps
done
expect 0 'mean over all levels' eval unlabelled --data plain --all --levels 1 --images 4
for run in classless unlabelled; do
    expect 0 '2 images' sample "$run" --seeds 0-1 --steps 2 --out plain.png
    expect 0 '2 images' sample "$run" --seeds 0-1 --steps 2 --out "$run-pngs"
    grep -a Class plain.png "$run-pngs/000000.png" && fail "a picture of no class says that it has one"
    expect 0 '2 images' sample "$run" --seeds 0-1 --steps 2 --out plain.npz
    grep -qa arr_1 plain.npz && fail "labels of images without classes"
    expect 2 'leave --class away' sample "$run" --class 0 --out no.png
    expect 2 'cannot be guided' sample "$run" --guidance 2 --out no.png
    expect 0 'parameters' info "$run"
done

echo "== resuming gives the same weights, to the bit"
expect 0 'done at step 12' train "${small[@]}" --out straight --set train.steps=12
[ "$("$sid2" info run --hash)" = "$("$sid2" info straight --hash)" ] || fail "resumed and straight weights differ"
expect 0 'done at step 12' train "${small[@]}" --out other --set train.steps=12 --set train.seed=1
[ "$("$sid2" info run --hash)" != "$("$sid2" info other --hash)" ] || fail "another seed gives the same weights"

echo "== killed and interrupted"
third=(--set train.checkpoint_every=3) # not in step with train.log_every
"$sid2" train "${small[@]}" --out killed "${third[@]}" --set train.steps=100000 >/dev/null 2>&1 &
job=$!
for _ in $(seq 300); do
    [ -e killed/checkpoints/step-00000003 ] && break
    sleep 0.1
done
expect 2 'in use by another' train "${small[@]}" --out killed --set train.steps=100000
expect 0 'killed *\(training\|saving\) *[0-9]*/100000 .* step-[0-9]*, 0:0[0-9] ago' status killed
expect 0 '"alive": true' status killed --json
kill -KILL "$job"
wait "$job" 2>/dev/null
expect 0 '^killed *killed ' status killed
step=$("$sid2" info killed --json | sed -n 's/.*step-0*\([0-9]*\)",*/\1/p')
expect 0 'done at step' train "${small[@]}" --out killed "${third[@]}" --set train.steps=$((step + 3))
expect 0 'done at step' train "${small[@]}" --out straight2 "${third[@]}" --set train.steps=$((step + 3))
[ "$("$sid2" info killed --hash)" = "$("$sid2" info straight2 --hash)" ] || fail "weights differ after a kill"
losses() { sed 's/, "images_per_s.*by_logsnr/, by_logsnr/; s/, "xxh3_128.*//' "$1/stats.jsonl"; }
diff <(losses killed) <(losses straight2) >differences || fail "statistics differ after a kill: $(cat differences)"
"$sid2" train "${small[@]}" --out stopped --set train.steps=100000 >out 2>err &
job=$!
for _ in $(seq 300); do
    [ -s stopped/stats.jsonl ] && break
    sleep 0.1
done
expect 0 '^stopped: paused at step [0-9]*$' pause stopped
expect 0 '^stopped *paused ' status stopped
expect 0 '1 images' sample stopped --seeds 0 --steps 2 --out paused.png
expect 0 '^stopped: goes on' pause stopped --continue
expect 2 'stopped is not paused' pause stopped --continue
kill -HUP "$job"
kill -TERM "$job" # both at once, as some terminals do: one request
wait "$job"
[ $? -eq 75 ] || fail "an interrupted training should end with 75"
grep -q 'goes on from here' out || fail "an interrupted training should say how to go on"
for signal in INT TERM HUP QUIT USR1 USR2 XCPU; do
    : >err
    "$sid2" train "${small[@]}" --out stopped --set train.steps=1000000 >out 2>err &
    job=$!
    for _ in $(seq 300); do
        grep -q 'step [0-9]*/' err && break
        sleep 0.1
    done
    kill -"$signal" "$job"
    case $signal in USR1 | USR2 | XCPU) # such may come again; they do not hurry it
        sleep 1.1
        kill -"$signal" "$job" 2>/dev/null ;;
    esac
    wait "$job"
    [ $? -eq 75 ] || fail "a training stopped by SIG$signal should end with 75: $(tail -n 2 err)"
    grep -q 'goes on from here' out || fail "SIG$signal should save"
done
expect 0 '^stopped *stopped .*/1000000 ' status stopped
started=$(date +%s%N)
expect 0 'stopped at step' train "${small[@]}" --out stopped --set train.steps=1000000 --minutes 0.1
took=$((($(date +%s%N) - started) / 1000000))
[ "$took" -lt 60000 ] || fail "--minutes 0.1 took $took ms"
grep -q '%  step .* 0:0[0-9] left' err || fail "the time left does not know --minutes: $(cat err)"
expect 0 '^run *complete .*12/12 .*step-00000012' status run
expect 1 'there is no such run' status run nowhere
grep -q '^run *complete' out || fail "a run that is there should be shown beside one that is not"
expect 1 'is no run of sid2 train' status pictures
expect 2 'no training is at work in run' pause run
expect 1 'there is no such run' pause nowhere
expect 2 'RUN is missing' status
expect 2 "too many arguments: '65'" status $(seq 65)
expect 2 "too many arguments: '65'" status -- $(seq 65)
rm decayed/status.json # as versions before left runs
expect 0 '^decayed *complete .*13/13 ' status decayed
echo '{"state": "trai' >decayed/status.json
expect 0 '^decayed *complete .*13/13 ' status decayed
expect 0 '"seconds_since": null' status decayed --json
expect 0 'step-' info stopped

echo "== what is printed can be pasted, and fits"
for run in 'a run' "it's \$mine; \`x\`" $'new\nline \377' -dash 'Kätzchen'; do
    expect 0 'done at step 2' train "${small[@]}" --out "./$run" --set train.steps=2
    cp out pasted # the command as it stands there, up to what it is for
    eval "set -- $(sed -n 's/^sid2 sample \(.*\) --out samples.png .*/\1/p' pasted)"
    expect 0 '1 images' sample "$@" --seeds 0 --steps 1 --out pasted.png
done
long=$(printf 'long-%.0s' {1..30})
expect 0 'done at step 2' train "${small[@]}" --out "$long/$long" --set train.steps=2
expect 0 'done at step 3' train "${small[@]}" --out "$long/$long" --set train.steps=3
grep -q '^resuming  *\.\.\..*long-/checkpoints/step-00000002$' err || fail "a long path in a plan: $(cat err)"
LC_ALL=C.UTF-8 grep -E '.{81}' err && fail "a line of a plan is wider than 80 columns"

echo "== pictures that are not square"
oblong=(--set model.image_size=16x24 --set model.blocks=res,transformer --set model.head_dim=8 --set train.steps=2)
expect 0 'done at step 2' train "${small[@]}" "${oblong[@]}" --out oblong --set train.sample_every=2 --set train.sample_count=4 --set train.sample_steps=2
grep -q '16x24 (height x width) in colour' err || fail "the plan does not say what the pictures are brought to"
grep -q '^image_size = 16x24$' oblong/config.ini || fail "config.ini of a run that is not square"
expect 0 '^head .*16x24x3' info oblong
expect 0 'mean over all levels' eval oblong --data pictures --levels 1 --images 4
expect 0 'report.html' report oblong
expect 0 'one.png' sample oblong --seeds 3 --steps 2 --out one.png
[ "$(head -c 24 one.png | tail -c 8 | od -An -tu1 | tr -s ' ')" = ' 0 0 0 24 0 0 0 16' ] || fail "one picture of 16x24 is not so high and wide"
expect 0 'x.npz' sample oblong --seeds 0-2 --steps 2 --out x.npz
grep -qa "'shape': (3, 16, 24, 3)" x.npz || fail "an npz of pictures that are not square"
expect 2 'height and width must be a multiple of 8' train "${small[@]}" --out no --set model.image_size=16x20
expect 2 'begun with model.image_size=16x24, not 24x16' train --data pictures --out oblong --set model.image_size=24x16 --set train.steps=3

echo "== names of classes"
cp -r pictures pets
first=$(ls pets | head -n 1) second=$(ls pets | sed -n 2p) third=$(ls pets | sed -n 3p)
mv "pets/$first" "pets/$(printf 'Ka\xcc\x88tzchen Mia')" # decomposed, as macOS writes it
mv "pets/$second" pets/dog
expect 0 'done at step 2' train "${small[@]}" --data pets --out named --set train.steps=2 --set train.sample_every=2 --set train.sample_count=10 --set train.sample_steps=2
grep -qa 'Class name.*dog, ' named/samples/step-00000002.png || fail "a grid of samples does not name its classes"
expect 0 '^    [01]  dog$' info named
expect 0 '"dog",' info named --json
expect 0 'digest' export named --out given
for model in named given; do
    for class in dog DOG 'Kätzchen Mia' 'kätzchen mia' "$third" 3 0-2 'dog,3,Kätzchen Mia'; do
        rm -rf by-name
        expect 0 '2 images' sample $model --seeds 0-1 --class "$class" --steps 2 --out by-name
    done
    grep -qa 'Class name.*dog' by-name/000000.png || fail "a picture does not say what its class is called"
    grep -qa 'Class name.*house' by-name/000001.png || fail "a picture of class 3 does not say what that is called"
    expect 2 "no class 'dgo'; did you mean 'dog'? There are 0 '" sample $model --class dgo --out no.png
    expect 2 "no class 'zebra'; there are .*'Kätzchen Mia'" sample $model --class zebra --out no.png
done
expect 0 'named.html' report named --out named.html
grep -q 'classes in turn: .*dog, ' named.html || fail "the report does not name the classes"
mv pets/dog pets/hound
expect 2 "other classes than pets has now: gone: 'dog'; new: 'hound'" train "${small[@]}" --data pets --out named --set train.steps=3
expect 0 "pets has other classes than the model.*gone: 'dog'" eval named --data pets --levels 1 --images 4
mv pets/hound pets/dog
picture=$(find pets/dog -name '*.png' | head -n 1)
cp "$(find "pets/$third" -name '*.png' | head -n 1)" "$picture"
expect 2 'begun on other pictures' train "${small[@]}" --data pets --out named --set train.steps=3
expect 0 'done at step 3' train "${small[@]}" --data pets --out named --set train.steps=3 --accept-data
expect 0 'done at step 4' train "${small[@]}" --data pets --out named --set train.steps=4
expect 0 '1 images' sample "$source/checkpoints/fashion-mnist" --class 'ankle BOOT' --seeds 0 --steps 1 --out by-name
grep -qa 'Class name.*Ankle boot' by-name/000000.png || fail "the shipped checkpoint does not name its classes"

echo "== sample"
expect 0 '3 images' sample run --seeds 0-1,7 --class 2 --steps 3 --batch 2 --out pngs
[ "$(ls pngs)" = "$(printf '000000.png\n000001.png\n000007.png')" ] || fail "one PNG a seed: $(ls pngs)"
expect 0 '1 images' sample run --seeds 7 --class 2 --steps 3 --out again
cmp pngs/000007.png again/000007.png || fail "a seed is not the same image in another batch"
grep -qa 'Guidance' pngs/000007.png || fail "a PNG without its parameters"
grep -qa Class pngs/000007.png || fail "a PNG without its class"
expect 0 'guided on [1-5] of 6 evaluations: 1[.][0-9]* times the operations without guidance' sample run --seeds 0 --steps 6 --guidance 2 --interval 0,1
expect 0 'guided on 6 of 6 evaluations: 2[.]0' sample run --seeds 0 --steps 6 --guidance 2 --interval always
expect 0 'grid.png' sample run --seeds 0-8 --steps 2 --sampler dpm2m --out deep/grid.png
expect 0 'x.npz' sample run --seeds 0-8 --steps 2 --sampler ddim --out x.npz
grep -qa arr_1 x.npz || fail "labels are left out"
expect 0 'guided on [0-9]* of 11 evaluations' sample run --seeds 0 --steps 6 --sampler heun --grid rho --guidance 2 --interval 0,1 --out heun
for text in Grid Rho; do grep -qa "$text" heun/000000.png || fail "a PNG without its $text"; done
grep -qa 'Gamma' heun/000000.png && fail "a PNG with a key that its sampler does not use"
expect 2 'class 10 is out of range' sample run --class 10 --out no.png
expect 2 'seeds .*reversed' sample run --seeds 5-1 --out no.png
expect 2 'seeds .*2^64' sample run --seeds 18446744073709551616 --out no.png
expect 2 "no class '-1'" sample run --class -1 --out no.png
expect 2 'seeds .*numbers and ranges' sample run --seeds 1, --out no.png
expect 2 'steps .*not empty' sample run --steps '' --out no.png
expect 2 'names 3 twice' sample run --seeds 3,3 --out no
expect 2 'should be x.png, x.jpg' sample run --seeds 3 --out no.GIF
expect 2 'no webp, as --format says' sample run --out no.png --format webp
expect 2 'format .*should be png' sample run --out no --format tiff
expect 2 'quality is for JPEG and WebP' sample run --out no.png --quality 9
expect 2 'quality should be 1 to 100' sample run --out no.jpg --quality 101
expect 2 'frames is for PNG and WebP' sample run --out no.jpg --frames 3
expect 2 'a side of a WebP has 16383' sample run --seeds 0-999 --columns 1000 --out no.webp
expect 0 'grid.PNG' sample run --seeds 3,3 --steps 2 --class 0,1 --out grid.PNG
[ -f grid.PNG ] || fail "grid.PNG is a file"
expect 2 'sample.steps' sample run --steps 0 --out no.png
expect 2 'sample.sampler' sample run --sampler euler --out no.png
expect 1 'nowhere' sample nowhere --out no.png
[ ! -e no.png ] || fail "a refused request wrote something"
mkdir folder.png
expect 1 'folder.png: cannot be written: Is a directory' sample run --steps 100000 --out folder.png
expect 2 'change --columns' sample run --seeds 0-65535 --steps 100000 --columns 65536 --out no.png
expect 1 'no-folder\|cannot' sample run --seeds 0 --steps 2 --out /proc/no-folder/x.png
# One image is there bare; formats by name; standard output; what was there before.
rm -f one.png
expect 0 'one.png$' sample run --seeds 7 --class 2 --steps 3 --out one.png
cmp one.png pngs/000007.png || fail "one seed is not the bare picture"
expect 0 'one.png (replaced)' sample run --seeds 7 --class 2 --steps 3 --out one.png
expect 0 'pngs/ (1 of them replaced)' sample run --seeds 7-8 --steps 3 --out pngs
expect 0 '2 images' sample run --seeds 1-2 --steps 2 --format jpeg --out jpegs
[ "$(ls jpegs)" = "$(printf '000001.jpg\n000002.jpg')" ] || fail "one JPEG a seed: $(ls jpegs)"
for kind in png jpeg webp npz; do
    "$sid2" sample run --seeds 7 --class 2 --steps 3 --out - --format $kind >stream.$kind 2>err || fail "--out -: $(cat err)"
    grep -q '1 image in .*standard output' err || fail "--out - says what it did on standard error: $(cat err)"
done
cmp stream.png one.png || fail "--out - is another picture"
[ "$(head -c 3 stream.jpeg | od -An -tx1 | tr -d ' ')" = ffd8ff ] || fail "--format jpeg"
[ "$(tail -c +9 stream.webp | head -c 4)" = WEBP ] || fail "--format webp"
set -o pipefail
"$sid2" sample run --seeds 7 --class 2 --steps 3 --out - 2>err | cmp - one.png || fail "--out - into a pipe: $(cat err)"
"$sid2" sample run --seeds 0 --steps 2 --out - >/dev/full 2>err && fail "--out - to a full disk"
grep -q '^sid2 sample: standard output: .*No space' err || fail "--out - to a full disk: $(cat err)"
set +o pipefail
expect 0 'x.npz' sample run --seeds 0-4 --steps 2 --batch 2 --out x.npz --rgb
expect 0 'y.npz' sample run --seeds 0-4 --steps 2 --batch 2 --out y.npz
python3 - <<'END' || fail "an npz is not as it should be"
import struct, zipfile
def array(name, member):
    with zipfile.ZipFile(name) as z:
        assert z.testzip() is None
        data = z.read(member)
    length = struct.unpack('<H', data[8:10])[0]
    return eval(data[10:10 + length]), data[10 + length:]
(colour, pixels), (grey, own) = array('x.npz', 'arr_0.npy'), array('y.npz', 'arr_0.npy')
assert colour['shape'] == (5, 32, 32, 3) and grey['shape'] in ((5, 32, 32, 1), (5, 32, 32, 3)), (colour, grey)
step = 3 // grey['shape'][3]
assert all(pixels[c::3] == own[c // step::3 // step] for c in range(3))
assert array('x.npz', 'arr_1.npy')[0]['shape'] == (5,)
END

echo "== a picture again"
expect 0 'as one.png, to the bit' sample --like one.png --out two.png
cmp one.png two.png || fail "--like makes other bytes"
expect 0 'as grid.PNG, to the bit' sample run --like grid.PNG --out two.png
expect 0 'film.png' sample run --seeds 0-4 --steps 6 --sampler heun --guidance 2 --interval always --frames 4 --columns 3 \
    --set sample.precision=f32 --set schedule.low=16 --out film.png
[ "$(grep -ao fcTL film.png | wc -l)" -eq 4 ] || fail "an animation of four frames"
expect 0 'as film.png, to the bit' sample --like film.png --out film2.png
cmp film.png film2.png || fail "--like makes another animation"
expect 0 'as jpegs/000002.jpg, to the bit' sample --like jpegs/000002.jpg --out jpegs2
cmp jpegs/000002.jpg jpegs2/000002.jpg || fail "--like makes another JPEG"
expect 0 'webps/' sample run --seeds 1-2 --steps 2 --format webp --out webps # without loss, and with
expect 0 'as webps/000002.webp, to the bit' sample --like webps/000002.webp --out webps2
cmp webps/000002.webp webps2/000002.webp || fail "--like makes another WebP"
expect 0 'w.webp' sample run --seeds 1-2 --steps 2 --quality 50 --out w.webp
expect 0 'as w.webp, to the bit' sample --like w.webp --out w2.webp
expect 0 'q.jpg' sample run --seeds 3 --steps 2 --raw --quality 40 --out q.jpg
expect 0 'as q.jpg, to the bit' sample --like q.jpg
expect 0 'not as one.png: .* values differ, .*Steps was 3 and is 4' sample --like one.png --steps 4 --out two.png
expect 0 'not as one.png: .*Seed was 7 and is 8' sample --like one.png --seeds 8 --out two.png
expect 0 'not compared with one.png' sample --like one.png --out two.npz
# A picture whose pixels are not what its texts say.
python3 - <<'END'
import struct, zlib
data, out, at = open('one.png', 'rb').read(), b'', 8
out = data[:8]
while at < len(data):
    size, kind = struct.unpack('>I4s', data[at:at + 8])
    body = data[at + 8:at + 8 + size]
    if kind == b'IDAT':
        raw = bytearray(zlib.decompress(body))
        raw[-1] ^= 1
        body = zlib.compress(bytes(raw))
    out += struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))
    at += 12 + size
open('forged.png', 'wb').write(out)
END
expect 1 'not as forged.png: .* values differ' sample --like forged.png --out two.png
expect 1 'does not say how it was made' sample --like sheet.png
expect 1 'nowhere' sample --like nowhere.png
expect 2 'CHECKPOINT is missing' sample --out no.png
expect 2 "was made by weights with the digest" sample "$source/checkpoints/fashion-mnist" --like one.png --out no.png
(cd deep && expect 2 "was made by 'run', which cannot be read here" sample --like ../one.png --out no.png)
mkdir step-by-step && cp -r run step-by-step/older && expect 0 '' train "${small[@]}" --out step-by-step/older --set train.steps=14
expect 0 'as one.png, to the bit' sample step-by-step/older --like one.png --out two.png # by the checkpoint before the newest
expect 0 'guided by step-by-step/older on [1-3] of 3 evaluations: [12][.]' sample run --seeds 3 --steps 3 --guidance 2 --guide step-by-step/older --out led.png
expect 0 'as led.png, to the bit' sample --like led.png --out two.png
expect 0 'guided on 3 of 3 evaluations: 2.00' sample run --seeds 3 --steps 3 --guidance 3 --interval always --guidance-rule apg --set sample.apg_radius=0.1 --out apg.png
grep -qa 'APG radius.*0.1' apg.png && grep -qa 'Guidance rule.*apg' apg.png || fail "a picture does not say how it was guided"
expect 0 'as apg.png, to the bit' sample --like apg.png --out two.png
expect 2 'guidance = 1 asks for none' sample run --seeds 3 --steps 3 --guidance 1 --guide step-by-step/older --out no.png
rm -r step-by-step
cp -r run/checkpoints/step-00000012 cut
truncate -s -100 cut/ema.safetensors
expect 1 'ema.safetensors' sample cut --out no.png
printf 'version https://git-lfs.github.com/spec/v1\nsize 5\n' >cut/ema.safetensors
expect 1 'git lfs pull' sample cut --out no.png
rm cut/ema.safetensors
expect 1 'cut' sample cut --out no.png
cp -r "$source/checkpoints/fashion-mnist" nan # whose file has no digests
chmod -R u+w nan
printf '\377\377\377\177' | dd of=nan/ema.safetensors bs=1 seek=$(($(wc -c <nan/ema.safetensors) - 4)) conv=notrunc 2>/dev/null
expect 1 'holds a value that is not finite' sample nan --out no.png
expect 1 'holds a value that is not finite' eval nan --data pictures --levels 1 --images 1
rm -r nan
cp -r run/checkpoints/step-00000012 huge # finite weights whose sums are not: inf - inf
LC_ALL=C sed -i 's/xxh3_128:/xxh3_gone/g' huge/ema.safetensors # a file without digests
for _ in {1..64}; do printf '\377\377\177\177\377\377\177\377'; done |
    dd of=huge/ema.safetensors bs=1 seek=$(($(wc -c <huge/ema.safetensors) - 512)) conv=notrunc 2>/dev/null
expect 1 'sampling step 1: x_hat of image 0 (seed 3) is not finite' sample huge --device cpu --seeds 3-4 --out no.png
[ ! -e no.png ] || fail "a NaN became a picture"
expect 1 'evaluation: the error of image 0 is not finite' eval huge --device cpu --data pictures --levels 1 --images 1
rm -r huge
cp run/checkpoints/step-00000012/ema.safetensors cut
config=run/checkpoints/step-00000012/config.ini
grep -v '^qk_norm\|xxh3' "$config" >cut/config.ini
sed 's/^rope_theta = 1/rope_theta = 5/' "$config" >cut/config.ini
expect 1 'cut/config.ini:1: not the digest' sample cut --out no.png
grep -v '^qk_norm\|xxh3' "$config" >cut/config.ini
expect 1 'cut/config.ini: model.qk_norm is missing' sample cut --out no.png
sed '1d;/logsnr_min =/q' "$config" >cut/config.ini
expect 1 'cut/config.ini: schedule.logsnr_max is missing' sample cut --out no.png
sed '1d;s/^patch = .*/&\n&/' "$config" >cut/config.ini
expect 2 'cut/config.ini:[0-9]*: model.patch is given twice' sample cut --out no.png
"$sid2" sample run --seeds 0-63 --steps 100000 --out no.png >/dev/null 2>err &
job=$!
sleep 1
kill -INT "$job"
ends_in_order sampling no. "$job"
mkfifo pipe.png
exec 7<>pipe.png # full, and nobody reads it: a sampling that cannot end in order
head -c 65536 /dev/zero >&7
"$sid2" sample run --seeds 0 --steps 1 --out pipe.png >/dev/null 2>err &
job=$!
for _ in $(seq 300); do
    grep -q '100 %' err && break
    sleep 0.1
done
sleep 1
kill -INT "$job"
kill -TERM "$job"
sleep 1.2
kill -TERM "$job" || fail "two signals at once should be one request"
wait "$job"
[ $? -eq 143 ] || fail "a later signal should end the program"
grep -q 'ended at once' err || fail "a later signal should be answered with a line: $(cat err)"
exec 7>&-
expect 1 'pipe.png: nobody reads this pipe' sample run --seeds 0 --steps 1 --out pipe.png

needs sample run --seeds 0-1 --steps 2 --out small.png
needs train "${small[@]}" --out little --set train.steps=1

echo "== no room"
(
    ulimit -f 4 # blocks of 1024 bytes: every larger file fails as on a full disk
    timeout 60 "$sid2" train "${small[@]}" --out full --set train.steps=2 >/dev/null 2>err
    [ $? -eq 1 ] && [ "$(grep -c '^sid2 train: .*\(too large\|space\)' err)" -eq 1 ]
) || fail "a full disk should be one line: $(cat err)"
[ -z "$(ls full/checkpoints)" ] || fail "a full disk left a part of a checkpoint"
if ! ldd "$sid2" | grep -q libasan; then
    (
        ulimit -v 400000
        timeout 60 "$sid2" train --preset imagenet128-1 --data pictures --out big --threads 1 >/dev/null 2>err
        [ $? -eq 1 ] && [ "$(grep -c '^sid2 train: ' err)" -eq 1 ]
    ) || fail "too little memory should be one line: $(cat err)"
fi

echo "== TensorBoard"
for steps in 10 20; do
    expect 0 "done at step $steps" train "${small[@]}" --out board --set train.tensorboard=yes --set train.steps=$steps \
        --set train.eval_every=10 --set train.sample_every=10 --set train.sample_count=4 --set train.sample_steps=2
done
python3 "$source/tests/read_events.py" board/tensorboard >events || fail "the event files are not what TensorBoard reads"
python3 - <<'END' || fail "the event files say something else than stats.jsonl: $(head -n 20 events)"
import json, os
got = [line.split() for line in open("events")]
want = {}
for line in map(json.loads, open("board/stats.jsonl")):
    for key, tag in ("loss", "loss/train"), ("grad_norm", "gradient_norm"), ("learning_rate",) * 2, ("heldout", "loss/held_out"):
        if key in line:
            want[line["step"], tag] = line[key]
    for level, loss, _ in line["by_logsnr"]:
        want[line["step"], f"loss_by_logsnr/{level:+d}"] = loss
for step, tag, value in (g for g in got if len(g) == 3 and g[1] not in ("images_per_s", "restart")):
    assert abs(want.pop((int(step), tag)) / float(value) - 1) < 1e-5, (step, tag)
assert not want, want
assert ["11", "restart", "1"] in got
for step in "10", "20":
    size = os.path.getsize(f"board/samples/step-000000{step}.png")
    assert any(g[:2] == [step, "samples"] and g[2].endswith("x3") and int(g[3]) == size for g in got)
END

echo "== eval, report"
expect 0 'mean over all levels' eval run --data pictures --levels 3 --images 4
expect 0 '"levels"' eval run --data pictures --levels 2 --images 2 --json
expect 0 '^  0.750 *-1.74 *[0-9.]* *[0-9.]* *[0-9.]*$' eval run straight run/checkpoints/step-00000012 --data pictures --levels 2 --images 4
[ "$(grep -c '^loss  ' out)" -eq 1 ] && grep -q '^3  ' out || fail "several checkpoints should be one table: $(cat out)"
expect 0 levels eval run straight --data pictures --levels 2 --images 2 --json
python3 -c 'import json; a, b = json.load(open("out")); assert a["loss"] == b["loss"] and a["path"] != b["path"]' ||
    fail "two checkpoints as JSON: $(cat out)"
expect 0 '^all  *[0-9.]*  *[0-9.]*  *[-+][0-9.]*$' eval run --data pictures --images 8 --bits --samples 4 --set sample.steps=2 --nearest near.png
grep -q '^pixel-PCA  *[0-9.]*  *[0-9.]* ' out && grep -q 'near.png: samples, and below' out && [ -s near.png ] || fail "eval --samples: $(cat out)"
expect 0 '"neighbours"' eval run --data pictures --images 8 --bits --samples 4 --set sample.steps=2 --json
expect 2 'nearest goes with --samples' eval run --data pictures --nearest near.png
expect 2 'samples should be 2' eval run --data pictures --samples 1
expect 2 'data is missing' eval run

echo "== averages of any length"
expect 0 'done at step 12' train "${small[@]}" --out averaged --set train.steps=12 --set train.averages=4
[ "$(ls averaged/averages)" = "$(printf 'step-%08d.safetensors\n' 4 8 12)" ] || fail "records of averages: $(ls averaged/averages)"
expect 0 'averaged over 0.08 of the training: from 6 averages, [0-9.]* % off as f16, digest' export averaged --ema 0.08 --out 'averaged-0.08'
expect 0 'averaged-0.08' info averaged-0.08 --verify
expect 0 '^weights averaged over 0.08 of the training$' info averaged-0.08
expect 0 '^2  .*averaged over 0.1 of' eval averaged --ema 0.05,0.1 --data pictures --levels 2 --images 4
mkdir scratch
TMPDIR=$PWD/scratch expect 0 '"ema"' eval averaged --ema 0.2 --data pictures --levels 2 --images 4 --json
expect 2 'lengths of up to 0.28' eval averaged --ema 0.1,2 --data pictures
expect 2 'a length of up to 0.28' export averaged --ema 1 --out no
expect 2 'of different weights' eval averaged --ema 0.1 --raw --data pictures
expect 2 'run/checkpoints/step-[0-9]*: trained without train.averages' export run --ema 0.1 --out no
expect 2 'trained without train.averages' eval run --ema 0.1 --data pictures
expect 0 'guided by averaged-0.08 on' sample averaged --seeds 3 --steps 3 --guidance 2 --guide averaged-0.08 --out led.png
expect 0 'as led.png, to the bit' sample --like led.png --out two.png
expect 2 'averaged was begun with train.averages=4, not 0' train "${small[@]}" --out averaged --set train.steps=14 --set train.averages=0
expect 2 'of different weights' eval fid averaged --against pictures --ema 0.1 --raw
[ -z "$(ls scratch)" ] || fail "an average was left behind"

echo "== ablate"
printf '%s\n' '[plan]' 'preset=quickstart' 'samples=4' 'seeds=0,1' '[all]' model.{channels,blocks,depth,mid_depth,emb,groups,patch}=@ train.{batch=8,steps=2,precision=f32,sample_every=0,eval_every=0} \
    sample.steps=2 '[row a]' loss.bias=1 '[row b]' loss.bias=2 | sed 's/channels=@/channels=16,16/; s/blocks=@/blocks=res,res/; s/emb=@/emb=32/; s/patch=@/patch=4/; s/groups=@/groups=4/; s/@/1/' >plan.ini
expect 0 'p after Holm' ablate plan.ini --device cpu --data pictures --out ablation
grep -q '^b  *[0-9.]* ± ' out && grep -q 'ablation/ablation.html' out && grep -q '</html>' ablation/ablation.html || fail "ablate: $(cat out)"
expect 0 '"held_out_images"' ablate plan.ini --device cpu --data pictures --out ablation --json
python3 -c 'import json; a = json.load(open("out")); assert [r["row"] for r in a["rows"]] == ["a", "b"] and all(s["done"] for r in a["rows"] for s in r["seeds"])' || fail "ablate --json: $(cat out)"
printf '[row c]\nmodel.skip=sideways\n' >>plan.ini
expect 2 'plan.ini:[0-9]*: row c: model.skip = sideways: expected level|block|none' ablate plan.ini --data pictures --out ablation
expect 0 'report.html' report run
grep -q '</html>' run/report.html || fail "the report is cut short"
! grep -q 'https\?://' run/report.html || fail "the report needs something from elsewhere"
expect 1 'no run' report empty
cp -r decayed 'decayed <&> two'
expect 0 '^run/comparison.html' report run straight 'decayed <&> two'
for text in 'decayed &lt;&amp;> two' 'held-out loss' 'logSNR -2 to 2' 'by time' 'learning rate' '<td>train.decay<td>constant<td>constant<td>cosine'; do
    grep -q -- "$text" run/comparison.html || fail "a report of three runs should have $text"
done
grep -q 'decayed <' run/comparison.html && fail "a run's name is HTML"
grep -q '<td>model.channels' run/comparison.html && fail "what is the same is no difference"
expect 0 '^board.html' report board --out board.html
[ "$(grep -c '<img' board.html)" -eq 3 ] && grep -q 'balloon, fish' board.html || fail "samples and names of classes are missing"
grep -q '20 of 20' board.html || fail "the target is missing"
mkdir starting
: >starting/stats.jsonl
expect 1 'no statistics yet' report starting
expect 2 'RUN is missing' report

echo "== plan"
expect 0 '256 ranks want as many lanes' plan
expect 0 'bf16, exact, overlapped' plan --preset imagenet256-2 --ranks 8
"$sid2" plan --preset imagenet256-2 --ranks 8 --json >expected.json || fail "plan --json"
expect 0 'measured [0-9]*, 100.0 % of this' plan --preset imagenet256-2 --ranks 8 --measured expected.json
echo '{"preset": "imagenet256-2"}' >expected.json
expect 1 'expected.json: no list of measurements' plan --measured expected.json

echo "== bench"
expect 0 'row_norm_grad' bench --preset quickstart --batch 4 --rounds 1 --seconds 0.01 --dtype f32
request='"dtype": "f32", "batch": 2, "threads": 1, "device": "cpu"'
for work in '"mode": "sample", "config": {}' '"mode": "op", "op": "attention", "shape": [2, 16, 64], "heads": 1'; do
    printf '{%s, %s}\nrun 4\nquit\n' "$request" "$work" | "$sid2" bench --serve >out
    [ "$(grep -c '^ready\|^[0-9]' out)" -eq 2 ] || fail "sid2 bench --serve, $work: $(cat out)"
done
printf '{%s, "mode": "unet"}\nprofile 1\nquit\n' "$request" | "$sid2" bench --serve >out
grep -q '^ready .* 5294080$' out && grep -q '"conv2d_wgrad", 29,' out || fail "sid2 bench --serve, unet: $(cat out)"
expect 0 '8 threads, too many' bench --scaling --threads 1,8 --preset quickstart --batch 4 --rounds 1 --seconds 0.01 \
    --dtype bf16 --load 2
grep -q 'beside 2 busy processes' out && grep -q '^sample, bf16' out || fail "bench --scaling: $(cat out)"
expect 0 '64 threads .* 4 .* train.batch=64 train.lanes=64' bench --scaling --predict 2,64 --sockets 2 --preset quickstart \
    --batch 4 --set train.lanes=4 --rounds 1 --seconds 0.01 --dtype f32

# Beside latent diffusion, PyTorch's side played by a script: n blocks last 1 + n seconds, and a part costs 8e9, an evaluation 1e9.
cat >latents <<'END'
#!/usr/bin/env python3
import json, sys
ask = json.loads(sys.stdin.readline())
print("ready 1 8", flush=True)
each = {"parameters": 8e6, "multiply_adds": 8e9, "bytes": 8e9, "update": 8e9, "memory": 8e9}
costs = dict.fromkeys(("train", "encode", "decode", "attend"), each) | {"evaluate": each | {"multiply_adds": 1e9}}
for line in sys.stdin:
    if line.startswith("count"):
        print(json.dumps(costs), flush=True)
    else:
        took = 1 + ask["depth"] if ask["mode"] in ("train", "evaluate") else 7
        print(json.dumps({"seconds": took + 1, "nodes": [["network", 1, took, 0, 0]]}), flush=True)
END
chmod +x latents
latent=(bench --latent --python ./latents --preset quickstart --rounds 1 --threads 1 --dtype f32)
expect 0 'less at any number of evaluations' "${latent[@]}"
grep -q 'DiT-XL/2 with both  *24.0 M ' out && grep -q 'image trained  *[0-9.e-]*  *29 ' out && grep -q 'decode  *7$' out ||
    fail "bench --latent: $(cat out)"
expect 0 'less up to 11 evaluations' "${latent[@]}" --rows count --set model.image_size=96 --set model.patch=1 --set model.mid_depth=8
expect 2 'latents want a square' "${latent[@]}" --set model.image_size=40
expect 2 'levels of different depth' "${latent[@]}" --set model.depth=1,2
expect 2 'should be of count,train' "${latent[@]}" --rows ops
expect 1 'cannot run' bench --latent --python ./nobody --rows count --preset imagenet256-2

echo "== tune"
export XDG_CACHE_HOME=$PWD/cache
expect 0 'by rule' devices
expect 0 'kept for this device' tune --device cpu
expect 0 'train \(f32\|bf16\), sample \(f32\|bf16\); linear f32 [a-z]*, bf16 [a-z]*; conv f32 [a-z]*, bf16 [a-z]*; [0-9]* MiB at a time; loops [0-9]* ns (measured)' devices
kept=$(echo cache/sid2/cpu-measured-*.txt)
[ -s "$kept" ] || fail "sid2 tune keeps no file"
cp "$kept" whole
sed -i 's/[0-9] MiB/9&/' "$kept" # which could be: its digest says that it is not
expect 0 'cannot be read, and is not used' devices
sed 1d whole >"$kept" # as edited by hand
for damage in 'truncate -s 5' 'sed -i s/train/trian/' 'sed -i s/linear/lienar/' 'sed -i s/at.a.time/at.once/' 'sed -i s/loops./&-/' 'truncate -s 0' 'sed -i 1s/^/x/'; do
    cp "$kept" whole
    $damage "$kept"
    expect 0 'cannot be read, and is not used' devices
    grep -q 'by rule' out || fail "a damaged file of sid2 tune is used: $damage"
    cp whole "$kept"
done
# what is kept is what is used: the order of sums shows in the last bits, where images are large enough for Winograd's
for products in linear conv; do
    for way in own library; do
        sed -i "s/$products f32 [a-z]*/$products f32 $way/" "$kept"
        expect 0 "$products f32 $way, bf16 [a-z]*.* (measured)" devices
        expect 0 '' train "${small[@]}" --out "$products-$way" --set train.steps=2 --set model.patch=1
    done
    grep -q 'without oneDNN' <("$sid2" devices) ||
        [ "$("$sid2" info $products-own --hash)" != "$("$sid2" info $products-library --hash)" ] ||
        fail "what sid2 tune kept of $products changes nothing"
    cp whole "$kept"
done
# a run keeps what it began with, whatever is measured later
sed -i 's/train [a-z0-9]*,/train f32,/;s/[0-9]* MiB/7 MiB/' "$kept"
expect 0 '' train "${small[@]}" --out settled --set train.steps=2 --set train.precision=auto
sed -i 's/train f32/train bf16/;s/7 MiB/9 MiB/' "$kept"
expect 0 'resuming' train "${small[@]}" --out settled --set train.steps=4 --set train.precision=auto
grep -q '^precision = f32' settled/config.ini && grep -q '^arena = 7' settled/config.ini ||
    fail "a run that goes on takes what was measured since: $(grep -E '^(precision|arena)' settled/config.ini)"
cp whole "$kept"
expect 2 'nothing to tune' tune --device reference
expect 2 'are for CUDA' tune --device cpu --preset quickstart
XDG_CACHE_HOME=/proc/none expect 0 'not kept' tune --device cpu
unset XDG_CACHE_HOME

[ "$failures" -eq 0 ] && echo "all good"
exit $((failures != 0))
