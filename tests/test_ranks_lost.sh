#!/usr/bin/env bash
# Ranks that are lost: killed, stopped, slow, stuck in an exchange, behind a link that went silent; and those that are not
# alike. Nobody waits for ever, nothing is lost, and whoever caused it is named.
#     test_ranks_lost.sh SID2 MPIEXEC MODULE FAULT-MODULE [TIMES]       TIMES (1) of each, at random places
set -u
sid2=$1 mpiexec=$2 module=$3 faults=$4 times=${5:-1}
work=$(mktemp -d)
trap 'jobs -p | xargs -r kill -9 2>/dev/null; rm -rf "$work"' EXIT
failures=0
fail() { echo "FAILED: $*"; [ ! -r "$work/log" ] || tail -n 5 "$work/log" | cut -c 1-200; failures=$((failures + 1)); }
export SID2_MPI=$module OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
RANDOM=${SEED:-7}

"$sid2" data synth --count 120 --out "$work/pictures.zip" >/dev/null 2>&1 || { echo "FAILED: no pictures"; exit 1; }
options=(train --preset quickstart --data "$work/pictures.zip" --device cpu --threads 1 --set train.batch=8 --set train.lanes=4
    --set train.sample_every=0 --set train.eval_every=0 --set train.steps=8 --set train.checkpoint_every=2)
train() { # RANKS RUN [OPTION...]
    "$mpiexec" -n "$1" "$sid2" "${options[@]}" --out "$2" "${@:3}"
}
"$sid2" "${options[@]}" --out "$work/whole" >"$work/log" 2>&1 || fail "one process"
same() { # RUN WHAT: as if nothing had happened
    local file
    for file in weights optimizer ema; do
        cmp -s "$work/whole/checkpoints/step-00000008/$file.safetensors" "$1/checkpoints/step-00000008/$file.safetensors" ||
            fail "$2: $file is another"
    done
}
# ended CODE SECONDS WHAT COMMAND...: the exit code, within a time.
ended() {
    local code=$1 limit=$2 what=$3 began=$SECONDS status
    shift 3
    timeout -k 5 120 "$@" >"$work/log" 2>&1
    status=$?
    [ $status -eq "$code" ] || fail "$what: exit code $status, not $code"
    [ $((SECONDS - began)) -le "$limit" ] || fail "$what: it took $((SECONDS - began)) s"
}
says() { # WHAT PATTERN
    grep -qE "$2" "$work/log" || fail "$1: no line says '$2'"
}

# ---- Not alike ----
differ() { # WHAT PATTERN OPTION...: the second rank's
    timeout 60 "$mpiexec" -n 1 "$sid2" "${options[@]}" --out "$work/mixed" : -n 1 "$sid2" "${options[@]}" --out "$work/mixed" "${@:3}" >"$work/log" 2>&1
    [ $? -eq 2 ] || fail "$1: it is not refused"
    says "$1" "rank 1 on [^:]*: $2"
    [ "$(grep -c . "$work/log")" -le 2 ] || fail "$1: more than a line is said"
    [ ! -e "$work/mixed/checkpoints" ] || fail "$1: something ran"
}
"$sid2" data synth --count 120 --seed 9 --out "$work/others.zip" >/dev/null 2>&1
"$sid2" data synth --count 100 --out "$work/fewer.zip" >/dev/null 2>&1
differ configuration "train.learning_rate is 0.5, rank 0's is" --set train.learning_rate=0.5
differ lanes "train.lanes is 2, rank 0's is 4" --set train.lanes=2
differ device "the device is .*reference, 1 thread, rank" --device reference
differ threads "the device is .* 2 threads" --threads 2
differ images "the number of images is" --data "$work/fewer.zip"
differ pictures "the digest of the pictures is" --data "$work/others.zip"
differ minutes "--minutes is 7, rank 0's is 0" --minutes 7
differ folder "the run is" --out "$work/elsewhere"

# ---- Faults within an exchange. A rank alone knows less than the whole: what it has saved is gone on with. ----
fault() { # RANKS "RANK EXCHANGE WHAT" RUN
    SID2_FAULT_MPI=$module SID2_MPI=$faults SID2_FAULT=$2 train "$1" "$3"
}
export -f fault train
resumed() { # RUN WHAT
    train 2 "$1" >"$work/log" 2>&1 || fail "$2: it does not go on"
    same "$1" "$2"
}
for ((i = 1; i <= times; i++)); do
    export SID2_DEADLINES=step=2,prepare=9,save=4,measure=4
    ((times > 1)) && at=$((30 + RANDOM % 600)) || at=300
    rank=$((RANDOM % 4))
    began=$SECONDS
    fault 4 "$rank $at hangs" "$work/hangs$i" >"$work/log" 2>&1
    [ $? -eq 75 ] || fail "stuck at exchange $at: another exit code than 75"
    [ $((SECONDS - began)) -le 20 ] || fail "stuck: it took $((SECONDS - began)) s"
    says "stuck at exchange $at" "^sid2: rank [0-3] of 4 on [^:]*: (step [0-9]+|preparing|saving at step [0-9]+|leaving the other ranks.*) has taken more than"
    says "stuck at exchange $at" "waits for (rank [0-3]|no rank)"
    resumed "$work/hangs$i" "stuck at exchange $at"
    fault 4 "$rank $at slow" "$work/slow$i" >"$work/log" 2>&1 || fail "a rank that is slow for a while ends it"
    same "$work/slow$i" "slow"
    fault 2 "1 $((at / 3)) fails" "$work/fails$i" >"$work/log" 2>&1
    [ $? -eq 75 ] || fail "an exchange that fails: another exit code than 75"
    says "an exchange that fails" "rank 1 on [^:]*: .*the network is down"
    resumed "$work/fails$i" "an exchange that fails"
    unset SID2_DEADLINES
    ((times > 1)) && at=$((1 + RANDOM % 700)) || at=400
    fault 4 "$rank $at killed" "$work/killed$i" >"$work/log" 2>&1 && fail "a rank that is killed goes unnoticed"
    resumed "$work/killed$i" "killed at exchange $at"
done

# ---- From outside: a rank of those that sid2 started itself ----
rank_pid() { # RANK LAUNCHER: the process under the launcher
    local pid
    for pid in $(pgrep -x sid2); do
        tr '\0' '\n' 2>/dev/null <"/proc/$pid/environ" | grep -qE "^(PMI_RANK|OMPI_COMM_WORLD_RANK)=$1$" &&
            grep -qz -- "$2" "/proc/$pid/cmdline" && echo "$pid" && return
    done
}
begin() { # RUN [OPTION...]: in the background, until it trains
    "$sid2" "${options[@]}" --set train.steps=100000 --set train.checkpoint_every=0 --out "$1" --ranks 4 "${@:2}" >"$work/log" 2>&1 &
    launched=$!
    for ((t = 0; t < 300; t++)); do
        grep -qs '"step": [2-9]' "$1/status.json" && return
        sleep 0.1
    done
    fail "it does not begin"
}
await() { # CODE SECONDS WHAT
    local began=$SECONDS status
    for ((t = 0; t < 10 * $2 + 100; t++)); do
        kill -0 "$launched" 2>/dev/null || break
        sleep 0.1
    done
    kill -9 "$launched" 2>/dev/null && fail "$3: it does not end"
    wait "$launched"
    status=$?
    [ $status -eq "$1" ] || fail "$3: exit code $status, not $1"
    [ $((SECONDS - began)) -le "$2" ] || fail "$3: it took $((SECONDS - began)) s"
}
unset SID2_MPI
for ((i = 1; i <= times; i++)); do
    begin "$work/kill$i"
    kill -9 "$(rank_pid $((RANDOM % 4)) "$work/kill$i")" || fail "no rank to kill"
    await 75 15 "a killed rank"
    export SID2_DEADLINES=step=2,prepare=20
    begin "$work/stop$i"
    kill -STOP "$(rank_pid $((RANDOM % 4)) "$work/stop$i")" || fail "no rank to stop"
    await 75 12 "a stopped rank"
    says "a stopped rank" "^sid2: rank [0-3] of 4 on [^:]*: step [0-9]+ has taken more than [0-9.]+ s, and waits for rank [0-3] in"
    unset SID2_DEADLINES
    begin "$work/term$i"
    kill -TERM "$launched"
    await 75 15 "SIGTERM"
    says SIGTERM "^stopped at step [0-9]+ of 100000"
done
"$sid2" train --ranks 3 "${options[@]:1}" --out "$work/three" >"$work/log" 2>&1
[ $? -eq 2 ] && grep -q "power of two" "$work/log" || fail "three ranks"

[ $failures -eq 0 ] && echo "all good"
exit $((failures > 0))
