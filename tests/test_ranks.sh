#!/bin/bash
# Several processes that train as one, from outside.
#     test_ranks.sh SID2 MPIEXEC TEST_I3D [TIMES]      TIMES (1): each signal and --minutes at so many random moments
set -euo pipefail
sid2=$1 mpiexec=$2 test_i3d=$3 times=${4:-1}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

fail() {
  echo "test_ranks: $*" >&2
  tail -n 20 ./*.log >&2 || true
  exit 1
}
ranks() { # ranks P: on as many; how each has ended stands in the file ends
  local count=$1
  shift
  : >ends
  "$mpiexec" -n "$count" ./rank "$sid2" "$@"
}
"$mpiexec" --version 2>&1 | grep -qE "Open MPI|OpenRTE" && open_mpi=yes || open_mpi=
printf '#!/bin/bash\n"$@"\ncode=$?\necho $code >>ends\nexit $code\n' >rank
chmod +x rank

"$sid2" data synth --count 60 --out pictures.zip >/dev/null 2>&1
train=(train --preset quickstart --device cpu --threads 1 --data pictures.zip --set model.depth=1
  --set model.mid_depth=1 --set train.holdout=20 --set train.sample_count=9 --set train.sample_steps=4
  --set eval.images=20 --set eval.levels=2)
whole=("${train[@]}" --set train.steps=6 --set train.eval_every=3 --set train.sample_every=6
  --set train.checkpoint_every=3)

# Whatever the number of ranks: the same checkpoint, the same held-out loss, the same pictures, byte for byte.
"$sid2" "${whole[@]}" --out one >one.log 2>&1 || fail "one process failed"
heldout() { grep -o '"heldout": .*]]' "$1/stats.jsonl" || echo "none in $1"; }
for count in 2 4; do
  ranks "$count" "${whole[@]}" --out "by$count" >"by$count.log" 2>&1 || fail "$count ranks failed"
  diff -r one/checkpoints "by$count/checkpoints" >&2 || fail "checkpoints of 1 and $count ranks differ"
  diff -r one/samples "by$count/samples" >&2 || fail "pictures of 1 and $count ranks differ"
  [ "$(grep -c "^step .*held-out" one.log)" = "$(grep -c "^step .*held-out" "by$count.log")" ] ||
    fail "not one rank speaks"
  [ "$(heldout one)" = "$(heldout "by$count")" ] || fail "held-out losses of 1 and $count ranks differ"
  grep -q "^ranks    $count, through MPI" "by$count.log" || fail "the plan does not tell of ranks"
done

# Pictures and losses of one checkpoint, whoever makes them.
drawn=(sample one --device cpu --threads 1 --seeds 0-10 --steps 4)
losses=(eval one --data pictures.zip --device cpu --threads 1 --images 20 --levels 2 --json)
for out in drawn.png drawn.npz; do
  "$sid2" "${drawn[@]}" --out "$out" >drawn.log 2>&1 || fail "no pictures"
  ranks 4 "${drawn[@]}" --out "4$out" >drawn4.log 2>&1 || fail "4 ranks: no pictures"
  cmp "$out" "4$out" || fail "$out of 1 and 4 ranks differs"
done
"$sid2" "${losses[@]}" >eval.json 2>eval.log || fail "no losses"
ranks 2 "${losses[@]}" >eval2.json 2>eval2.log || fail "2 ranks: no losses"
cmp eval.json eval2.json || fail "losses of 1 and 2 ranks differ"

# Clips: learnt, and gone on from given frames, by one and by two.
"$sid2" data synth --kind moving-shapes --size 8 --frames 7 --count 12 --out clips.tar >/dev/null 2>&1
clips=(train --preset moving-shapes --device cpu --threads 1 --data clips.tar --set model.image_size=8 --set model.frames=4
  --set model.given=2 --set model.channels=8,16 --set model.blocks=res,transformer --set model.depth=1 --set model.mid_depth=1
  --set model.emb=16 --set model.head_dim=8 --set model.groups=4 --set model.dropout=0.1 --set train.batch=8 --set train.steps=3
  --set train.sample_every=3 --set train.sample_steps=2 --set train.sample_count=4 --set train.holdout=3 --set eval.levels=2
  --set train.eval_every=3 --set sample.steps=4)
longer=(sample clips1 --given clips.tar --seeds 0-4 --frames 9 --device cpu --threads 1)
"$sid2" "${clips[@]}" --out clips1 >clips1.log 2>&1 || fail "one process learns no clips"
ranks 2 "${clips[@]}" --out clips2 >clips2.log 2>&1 || fail "2 ranks learn no clips"
diff -r clips1/checkpoints clips2/checkpoints >&2 || fail "checkpoints of clips of 1 and 2 ranks differ"
diff -r clips1/samples clips2/samples >&2 || fail "clips of 1 and 2 ranks differ while they are learnt"
[ "$(heldout clips1)" = "$(heldout clips2)" ] || fail "held-out losses of clips of 1 and 2 ranks differ"
"$sid2" "${longer[@]}" --out longer.png >longer.log 2>&1 || fail "no clips"
ranks 2 "${longer[@]}" --out longer2.png >longer2.log 2>&1 || fail "2 ranks: no clips"
cmp longer.png longer2.png || fail "clips of 1 and 2 ranks differ"

# Clips that several judge, by a network of random weights: one result, the same statistics.
SID2_WRITE=i3d.safetensors "$test_i3d" || fail "no weights"
python3 - <<'END'
import struct, zipfile
head = "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 9, 8, 8, 1), }".ljust(117) + "\n"
with zipfile.ZipFile("clips.npz", "w") as z:
    z.writestr("arr_0.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + head.encode() +
               bytes(i * i * 7 // 64 % 251 for i in range(3 * 9 * 64)))
END
judged=(eval fvd clips.npz --weights i3d.safetensors --device cpu --threads 1 --no-cache)
"$sid2" "${judged[@]}" --statistics fvd.npz >fvd.log 2>&1 || fail "no statistics of clips"
ranks 2 "${judged[@]}" --batch 2 --statistics fvd2.npz --against fvd.npz --json >fvd.json 2>fvd2.log || fail "2 ranks: no FVD"
cmp fvd.npz fvd2.npz || fail "statistics of 1 and 2 ranks differ"
[ "$(grep -c '"fvd"' fvd.json)" = 1 ] || fail "not one result"
! ranks 2 eval fvd nowhere --weights i3d.safetensors --device cpu --threads 1 --against fvd.npz >lost.log 2>&1 ||
  fail "clips that are not there are judged"
[ "$(grep -c nowhere lost.log)" = 1 ] || fail "not one line"

# Resumed by others, for more steps.
ranks 4 "${whole[@]}" --set train.steps=3 --out moved >moved.log 2>&1 || fail "4 ranks failed"
ranks 2 "${whole[@]}" --out moved >>moved.log 2>&1 || fail "2 ranks failed to go on"
diff -r one/checkpoints/step-00000006 moved/checkpoints/step-00000006 >&2 ||
  fail "saved by 4 and resumed by 2, it is another training"

await() { # PATTERN: until a line of stopped.log has it
  for ((i = 0; i < 600; i++)); do ! grep -qs "$1" stopped.log || return 0; sleep 0.1; done
  fail "no line '$1' in a minute"
}
find_ranks() { # those that work in this test's folder
  local process
  processes=()
  for process in $(pgrep -x sid2); do
    [ "$(readlink "/proc/$process/cwd")" != "$work" ] || processes+=("$process")
  done
}

# A signal to any of them, or the end of its time: all end at one step, and all say that they will come again, or that the time
# is over.
long=("${train[@]}" --set train.steps=1000000 --set train.sample_every=0 --set train.eval_every=0)
stop() { # KIND CODE
  local code=0
  rm -rf stopped stopped.log
  if [ "$1" = minutes ]; then
    ranks 4 "${long[@]}" --out stopped --minutes "0.0$((2 + RANDOM % 8))" >stopped.log 2>&1 || code=$?
  else
    ranks 4 "${long[@]}" --out stopped >stopped.log 2>&1 &
    job=$!
    await "step [0-9]"
    sleep "0.$((RANDOM % 10))"
    find_ranks
    [ "${#processes[@]}" = 4 ] || fail "there are ${#processes[@]} ranks"
    kill "-$1" "${processes[RANDOM % 4]}"
    wait "$job" || code=$?
  fi
  [ "$code" = "$2" ] || fail "stopped by $1: exit code $code"
  # Open MPI's launcher ends those that are left as soon as one has ended so; what they had to save is saved.
  [ "$(grep -cx "$2" ends)" = 4 ] || { [ -n "$open_mpi" ] && grep -qx "$2" ends && ! grep -qvx "$2" ends; } || fail "stopped by $1: exit codes $(tr '\n' ' ' <ends)"
  saved=$(find stopped/checkpoints -name 'step-*' | sort | tail -n 1)
  grep -q "^stopped at step $((10#${saved##*step-})) " stopped.log || fail "another step than was saved"
  "$sid2" info stopped --verify >verified.log 2>&1 || fail "stopped by $1: what was saved is damaged"
}
for ((time = 0; time < times; time++)); do
  stop TERM 75
  stop USR1 75
  stop INT 75
  stop minutes 0
done
ranks 2 "${long[@]}" --minutes 0.02 --out stopped >stopped.log 2>&1 || fail "it does not go on"

# Paused, and going on.
rm -rf stopped stopped.log
ranks 2 "${long[@]}" --out stopped >stopped.log 2>&1 &
job=$!
await "step [0-9]"
"$sid2" pause stopped >pause.log 2>&1 || fail "no pause"
await "^paused"
"$sid2" status stopped >status.log
"$sid2" status --json stopped >status.json
[ "$(grep -cE "^ +[01] +[^ ]+ +([0-9]+ %|-) +[0-9.]+ [KM]iB  [a-z]" status.log)" = 2 ] || fail "two ranks are not shown"
[ "$(grep -c '"silent": false' status.json)" = 2 ] || fail "ranks that are at work are silent"
"$sid2" pause --continue stopped >>pause.log 2>&1 || fail "no going on"
await "^going on"
find_ranks
kill -TERM "${processes[0]}"
wait "$job" || true
[ ! -e stopped/ranks ] || fail "ranks are shown that are done"

# Three have no order of their own: refused, or summed as the library does.
three=("${train[@]}" --set train.batch=24 --set train.steps=2 --out three)
code=0
ranks 3 "${three[@]}" >three.log 2>&1 || code=$?
[ "$code" = 2 ] && [ "$(grep -c "need a power of two" three.log)" = 1 ] || fail "3 ranks: $code"
ranks 3 "${three[@]}" --fast-reduce >three.log 2>&1 || fail "3 ranks do not sum"
grep -q "summed as MPI does (--fast-reduce)" three.log || fail "other bits are not announced"

# What cannot be is refused, by one line and by all.
code=0
ranks 2 "${train[@]}" --set train.lanes=1 --out lanes >lanes.log 2>&1 || code=$?
[ "$code" = 2 ] && [ "$(grep -c "1 lanes cannot be dealt to 2 ranks" lanes.log)" = 1 ] || fail "1 lane for 2 ranks"
code=0
ranks 2 "${train[@]}" --data nothing.zip --out none >none.log 2>&1 || code=$?
[ "$code" = 1 ] && [ "$(grep -c "nothing.zip" none.log)" = 1 ] || fail "data that is not there: $code"
echo "test_ranks: fine, stopped $((4 * times)) times"
