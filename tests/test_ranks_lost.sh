#!/usr/bin/env bash
# Ranks that are lost: killed, stopped, slow, stuck in an exchange, behind a link that went silent; and those that are not
# alike. Nobody waits longer than the deadline and five seconds, nothing is lost, and who waited for whom is named.
#     test_ranks_lost.sh SID2 MPIEXEC MODULE FAULT-MODULE [TIMES]       TIMES (1) of each, at random places
# MPIEXEC and MODULE: of MPICH or of Open MPI. SEED=N: other places.
set -u
export LC_ALL=C
sid2=$1 mpiexec=$2 module=$3 faults=$4 times=${5:-1}
work=$(mktemp -d)
net=sid2-$$ # network namespaces
drop_hosts() {
    local n
    for n in a m b; do
        ip netns pids "$net-$n" 2>/dev/null | xargs -r kill -9
        ip netns del "$net-$n" 2>/dev/null
    done
}
trap 'jobs -p | xargs -r kill -9 2>/dev/null; drop_hosts; rm -rf "$work"' EXIT
failures=0
declare -A tried
tried() { tried[$1]=$((${tried[$1]:-0} + 1)); }
fail() { echo "FAILED: $*"; [ ! -r "$work/log" ] || tail -n 5 "$work/log" | cut -c 1-200; failures=$((failures + 1)); }
export SID2_MPI=$module OMP_NUM_THREADS=1 OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
RANDOM=${SEED:-7}

"$sid2" data synth --count 120 --out "$work/pictures.zip" >/dev/null 2>&1 || { echo "FAILED: no pictures"; exit 1; }
options=(train --preset quickstart --data "$work/pictures.zip" --device cpu --threads 1 --set train.batch=8 --set train.lanes=4
    --set model.channels=16,16,16 --set model.depth=1 --set model.mid_depth=1 --set model.emb=16 --set model.head_dim=16
    --set train.sample_every=0 --set train.eval_every=0 --set train.steps=8 --set train.checkpoint_every=2
    --set train.precision=f32) # what auto is differs from device to device
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
# promptly WHAT BEGAN [ENDED]: from the fault on it took no more than the deadline, which the log says, and five seconds.
promptly() {
    local limit
    limit=$(grep -oE "has taken more than [0-9.]+ s" "$work/log" | grep -oE "[0-9.]+" | sort -g | tail -n 1)
    awk -v took="$2 ${3:-$EPOCHREALTIME}" -v limit="${limit:-0}" 'BEGIN { split(took, t, " "); exit t[2] - t[1] > limit + 5 }' ||
        fail "$1: from $2 to ${3:-$EPOCHREALTIME} is more than ${limit:-0} s and five"
}
# ends_75 CODE WHAT: the ranks end with 75, and so does the launcher, unless it has killed some first, or ends before it hears of
# some: MPICH's puts the statuses of all together, with 9 for the former and 1 for the latter, and takes what it gets for a signal.
ends_75() {
    [ "$1" -eq 75 ] || grep -qE "EXIT STRING: (Killed|Hangup)" "$work/log" || fail "$2: exit code $1, not 75"
}
# A rank's last line: who, where, in what, and for whom it waited.
late="^sid2: rank [0-9]+ of [0-9]+ on [^ :]+: (step [0-9]+|preparing|saving at step [0-9]+|leaving the other ranks.*) has taken more than [0-9.]+ s, and waits for (rank [0-9]+ in [a-z ]+|others in [a-z ]+|no rank) "
says() { # WHAT PATTERN
    grep -qE "$2" "$work/log" || fail "$1: no line says '$2'"
}

# ---- Not alike ----
differ() { # WHAT PATTERN OPTION...: the second rank's
    timeout 60 "$mpiexec" -n 1 "$sid2" "${options[@]}" --out "$work/mixed" : -n 1 "$sid2" "${options[@]}" --out "$work/mixed" "${@:3}" >"$work/log" 2>&1
    [ $? -eq 2 ] || fail "$1: it is not refused"
    says "$1" "rank 1 on [^:]*: $2"
    [ "$(grep -c "^sid2" "$work/log")" -le 2 ] || fail "$1: more than a line is said"
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
export SID2_FAULT_SIGN=$work/sign
began() { stat -c %.9Y "$SID2_FAULT_SIGN"; }
for ((i = 1; i <= times; i++)); do
    export SID2_DEADLINES=step=2,prepare=9,save=4,measure=4
    ((times > 1)) && at=$((30 + RANDOM % 500)) || at=300
    rank=$((RANDOM % 4))
    fault 4 "$rank $at hangs" "$work/hangs$i" >"$work/log" 2>&1
    ends_75 $? "stuck at exchange $at"
    promptly "stuck at exchange $at" "$(began)"
    says "stuck at exchange $at" "$late"
    resumed "$work/hangs$i" "stuck at exchange $at"
    tried "a rank stuck in an exchange"
    if fault 4 "$rank $at slow" "$work/slow$i" >"$work/log" 2>&1; then
        same "$work/slow$i" "slow"
        tried "a slow rank, which nobody ends"
    else
        fail "a rank that is slow for a while ends it"
    fi
    fault 2 "1 $((at / 3)) fails" "$work/fails$i" >"$work/log" 2>&1
    ends_75 $? "an exchange that fails"
    promptly "an exchange that fails" "$(began)"
    says "an exchange that fails" "rank 1 on [^:]*: .*the network is down"
    resumed "$work/fails$i" "an exchange that fails"
    tried "an exchange that fails"
    unset SID2_DEADLINES
    fault 4 "$rank $at killed" "$work/killed$i" >"$work/log" 2>&1 && fail "a rank that is killed goes unnoticed"
    promptly "killed at exchange $at" "$(began)"
    resumed "$work/killed$i" "killed at exchange $at"
    tried "a rank killed in an exchange"
    rm -rf "$work"/{hangs,slow,fails,killed}"$i"
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
await() { # CODE WHAT BEGAN
    local status
    for ((t = 0; t < 600; t++)); do
        kill -0 "$launched" 2>/dev/null || break
        sleep 0.1
    done
    promptly "$2" "$3"
    kill -9 "$launched" 2>/dev/null && fail "$2: it does not end"
    wait "$launched"
    status=$?
    [ $status -eq "$1" ] || fail "$2: exit code $status, not $1"
}
unset SID2_MPI
for ((i = 1; i <= times; i++)); do
    begin "$work/kill$i"
    began=$EPOCHREALTIME
    kill -9 "$(rank_pid $((RANDOM % 4)) "$work/kill$i")" || fail "no rank to kill"
    await 75 "a killed rank" "$began"
    tried "a killed rank"
    export SID2_DEADLINES=step=2,prepare=20
    begin "$work/stop$i"
    began=$EPOCHREALTIME
    kill -STOP "$(rank_pid $((RANDOM % 4)) "$work/stop$i")" || fail "no rank to stop"
    await 75 "a stopped rank" "$began"
    says "a stopped rank" "$late"
    says "a stopped rank" "waits for rank [0-3] in"
    tried "a stopped rank"
    unset SID2_DEADLINES
    begin "$work/term$i"
    began=$EPOCHREALTIME
    kill -TERM "$launched"
    await 75 SIGTERM "$began"
    says SIGTERM "^stopped at step [0-9]+ of 100000"
    tried "a launcher that gets SIGTERM"
    rm -rf "$work"/{kill,stop,term}"$i"
done
"$sid2" train --ranks 3 "${options[@]:1}" --out "$work/three" >"$work/log" 2>&1
[ $? -eq 2 ] && grep -q "power of two" "$work/log" || fail "three ranks"

# ---- Two hosts, and the link between them goes silent: namespaces, of which the middle one forwards, and then does not. The
# launcher hangs, too, and is not judged. ----
make_hosts() {
    local n
    for n in a m b; do ip netns add "$net-$n" && ip -n "$net-$n" link set lo up || return 1; done
    ip link add near netns "$net-a" type veth peer name left netns "$net-m" &&
        ip link add near netns "$net-b" type veth peer name right netns "$net-m" &&
        ip -n "$net-a" addr add 10.91.1.1/24 dev near && ip -n "$net-m" addr add 10.91.1.2/24 dev left &&
        ip -n "$net-b" addr add 10.91.2.1/24 dev near && ip -n "$net-m" addr add 10.91.2.2/24 dev right &&
        ip -n "$net-a" link set near up && ip -n "$net-b" link set near up &&
        ip -n "$net-m" link set left up && ip -n "$net-m" link set right up &&
        ip -n "$net-a" route add default via 10.91.1.2 && ip -n "$net-b" route add default via 10.91.2.2 && forward 1
}
forward() { ip netns exec "$net-m" sh -c "echo $1 >/proc/sys/net/ipv4/ip_forward"; }
# What a launcher takes for ssh; and what tells how a rank has ended, and when.
cat >"$work/agent" <<END
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
shift # the host: the other one
exec ip netns exec $net-b unshare --uts sh -c "hostname node-b; \$*"
END
cat >"$work/rank" <<END
#!/bin/bash
"\$@"
echo "\$? \$EPOCHREALTIME" >>$work/ends
END
chmod +x "$work/agent" "$work/rank"
case $("$mpiexec" --version 2>&1) in
*"Open MPI"* | *OpenRTE*)
    across=("$mpiexec" --mca plm_rsh_agent "$work/agent" --mca btl self,tcp --mca pml ob1 --host 10.91.1.1,10.91.2.1 -n 2 -x SID2_DEADLINES) ;;
*)
    across=(env UCX_TLS=tcp,self FI_PROVIDER=tcp "$mpiexec" -launcher ssh -launcher-exec "$work/agent" -hosts 10.91.1.1,10.91.2.1 -iface near -n 2) ;;
esac
silent() { # RUN
    local cut code at
    : >"$work/ends"
    ip netns exec "$net-a" "${across[@]}" "$work/rank" "$sid2" "${options[@]}" --set train.steps=100000 --set train.checkpoint_every=0 \
        --out "$1" >"$work/log" 2>&1 &
    disown
    for ((t = 0; t < 300; t++)); do
        grep -qs '"step": [2-9]' "$1/status.json" && break
        sleep 0.1
    done
    sleep "0.$((RANDOM % 10))"
    cut=$EPOCHREALTIME
    forward 0
    for ((t = 0; t < 300; t++)); do
        [ "$(wc -l <"$work/ends")" -lt 2 ] || break
        sleep 0.1
    done
    [ "$(wc -l <"$work/ends")" -eq 2 ] || fail "a silent link: $(wc -l <"$work/ends") of two ranks have ended"
    while read -r code at; do
        [ "$code" -eq 75 ] || fail "a silent link: exit code $code"
        promptly "a silent link" "$cut" "$at"
    done <"$work/ends"
    says "a silent link" "$late"
    drop_hosts
}
export SID2_DEADLINES=step=2,prepare=20
for ((i = 1; i <= times; i++)); do
    if ! make_hosts >"$work/log" 2>&1; then
        echo "a silent link: left out, there can be no network namespaces here: $(head -n 1 "$work/log")"
        break
    fi
    silent "$work/link$i"
    tried "a link that goes silent"
done

for what in "${!tried[@]}"; do echo "$what: ${tried[$what]} tried"; done
[ $failures -eq 0 ] && echo "all good"
exit $((failures > 0))
