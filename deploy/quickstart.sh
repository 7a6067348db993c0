#!/bin/bash
# From a clean clone on Debian 12 to a near cache in front of a Redis Cluster, with a demonstration:
#     deploy/quickstart.sh [--once] [--upstream URL] [--replicas N] [--port 6380] [--admin-port 9180]
#   --once          end after the demonstration; else it stays up until Ctrl-C
#   --upstream URL  use that (redis://..., redis+cluster://...) instead of starting three primaries on loopback
#   --replicas N    replicas per primary of the cluster it starts (default 0)
#   --port, --admin-port   where the sidecar listens on 127.0.0.1; 0: any free port
# Whatever it starts ends with it, and its temporary folder goes. With NEARCACHED_BINARY set, that program is run instead of
# building one.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

once=
upstream=
replicas=0
port=6380
admin_port=9180
binary=${NEARCACHED_BINARY:-}
unset NEARCACHED_BINARY NEARCACHED_CI  # the tests' own: the daemon refuses variables it does not know
unset NEARCACHED_BINARY  # the daemon takes variables of that prefix for settings
folder=
node_ports=()
node_pids=()
sidecar_pid=
task_pid=

say() { printf '\n== %s\n' "$*"; }
die() { printf 'quickstart.sh: %s\n' "$*" >&2; exit 1; }
usage() { sed -n '3,9s/^# \{0,1\}//p' "$0"; exit "$1"; }

parse_arguments() {
  while (($# > 0)); do
    case $1 in
      --once) once=yes; shift; continue ;;
      -h | --help) usage 0 ;;
      --upstream | --replicas | --port | --admin-port) (($# >= 2)) || usage 2 >&2 ;;
      *) usage 2 >&2 ;;
    esac
    case $1 in
      --upstream) upstream=$2 ;;
      --replicas) replicas=$2 ;;
      --port) port=$2 ;;
      --admin-port) admin_port=$2 ;;
    esac
    shift 2
  done
  [[ $replicas =~ ^[0-5]$ ]] || die "--replicas is 0 to 5, not '$replicas'"
  [[ $port =~ ^[0-9]{1,5}$ && $admin_port =~ ^[0-9]{1,5}$ ]] || die "a port is a number"
}

# ---- processes

# The child dies with this script, even if that is killed -9.
start() {  # LOG COMMAND...
  local log=$1
  shift
  if command -v setpriv >/dev/null; then set -- setpriv --pdeathsig KILL "$@"; fi
  "$@" >"$log" 2>&1 </dev/null &
}

stop() {  # PID...: SIGTERM, ten seconds, SIGKILL
  local pid tries
  for pid in "$@"; do kill -TERM "$pid" 2>/dev/null || true; done
  for pid in "$@"; do
    for ((tries = 0; tries < 100; ++tries)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
}

# Bash looks at a signal only when the command in the foreground has ended; what may take long is therefore waited for.
interruptible() {  # COMMAND...
  local code=0
  "$@" </dev/null &
  task_pid=$!
  wait "$task_pid" || code=$?
  task_pid=
  return "$code"
}

# The sidecar before the servers, so that what it has in flight is answered.
clean_up() {
  trap '' INT TERM
  if [[ -n $task_pid ]]; then stop "$task_pid"; fi
  if [[ -n $sidecar_pid ]]; then stop "$sidecar_pid"; fi
  if ((${#node_pids[@]} > 0)); then stop "${node_pids[@]}"; fi
  if [[ -n $folder ]]; then rm -rf "$folder"; fi
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Sets free_port to one below the ephemeral range, free together with its cluster bus port.
find_free_port() {
  local tries
  for ((tries = 0; tries < 200; ++tries)); do
    free_port=$((11000 + RANDOM % 11000))
    [[ " ${node_ports[*]} $port $admin_port " == *" $free_port "* ]] && continue
    if ! listens "$free_port" && ! listens $((free_port + 10000)); then return; fi
  done
  die "found no free port"
}

choose_ports() {
  if ((port == 0)); then find_free_port; port=$free_port; fi
  if ((admin_port == 0)); then find_free_port; admin_port=$free_port; fi
  listens "$port" && die "port $port of 127.0.0.1 is taken: end what listens there, or give --port"
  listens "$admin_port" && die "port $admin_port of 127.0.0.1 is taken: end what listens there, or give --admin-port"
  return 0
}

wait_for() {  # SECONDS WHAT COMMAND...
  local deadline=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    if ((SECONDS >= deadline)); then die "waited in vain for $what"; fi
    sleep 0.1
  done
}

# ---- setup

build_daemon() {
  [[ -z $binary ]] || return 0
  local log=build/release/quickstart-build.log
  mkdir -p build/release
  say "building nearcached (a few minutes the first time; log: $log)"
  if ! interruptible cmake --preset release >"$log" 2>&1 ||
    ! interruptible cmake --build build/release --target nearcached >>"$log" 2>&1; then
    tail -n 40 "$log" >&2
    die "the build failed"
  fi
  binary=build/release/nearcached
}

cli() { timeout --foreground 10 redis-cli "$@"; }
node_cli() { cli -p "$1" "${@:2}"; }  # PORT COMMAND...

cluster_is_ready() {
  local node
  for node in "${node_ports[@]}"; do
    node_cli "$node" cluster info 2>/dev/null | grep -q '^cluster_state:ok' || return 1
    node_cli "$node" info replication | grep -q '^master_link_status:down' && return 1
  done
  return 0
}

start_cluster() {
  local count=$((3 * (1 + replicas))) i addresses=()
  say "starting a cluster of 3 primaries and $((count - 3)) replicas on loopback"
  for ((i = 0; i < count; ++i)); do
    find_free_port
    node_ports+=("$free_port")
    addresses+=("127.0.0.1:$free_port")
    mkdir "$folder/$free_port"
    start "$folder/$free_port.log" redis-server --port "$free_port" --bind 127.0.0.1 --dir "$folder/$free_port" --save '' \
      --cluster-enabled yes --cluster-node-timeout 2000 --repl-diskless-sync-delay 0
    node_pids+=($!)
  done
  for i in "${node_ports[@]}"; do wait_for 15 "the server on port $i" listens "$i"; done
  interruptible redis-cli --cluster create "${addresses[@]}" --cluster-replicas "$replicas" --cluster-yes >"$folder/create.log" 2>&1 ||
    { tail -n 20 "$folder/create.log" >&2; die "the cluster did not come together"; }
  wait_for 30 "the cluster to be ready" cluster_is_ready
  upstream="redis+cluster://$(IFS=,; echo "${addresses[*]}")"
  echo "cluster: ${addresses[*]}"
}

sidecar_is_ready() {
  kill -0 "$sidecar_pid" 2>/dev/null || { cat "$folder/sidecar.log" >&2; die "nearcached ended at once"; }
  grep -qw ready "$folder/sidecar.log"
}

start_sidecar() {
  say "starting nearcached on 127.0.0.1:$port, admin on 127.0.0.1:$admin_port"
  : >"$folder/sidecar.log"
  start "$folder/sidecar.log" "$binary" --listen "127.0.0.1:$port" --upstream "$upstream" --admin "127.0.0.1:$admin_port"
  sidecar_pid=$!
  wait_for 20 "nearcached to be ready" sidecar_is_ready
}

# ---- demonstration

sidecar() { cli -p "$port" "$@"; }

# Arguments of redis-cli for the upstream's first address: sets direct_args, and follow (-c) for a cluster.
choose_direct() {
  local rest=${upstream#*://} user_info=
  follow=()
  if [[ $upstream == unix:* ]]; then
    direct_args=(-s "${upstream#unix:}")
    return
  fi
  if [[ $upstream == redis+cluster://* ]]; then follow=(-c); fi
  if [[ $rest == *@* ]]; then user_info=${rest%@*}@; fi
  user_info=${user_info#:}  # redis-cli takes a password alone without its colon
  rest=${rest##*@}
  direct_args=(-u "redis://$user_info${rest%%,*}")
}

direct() { cli "${follow[@]}" "${direct_args[@]}" "$@" 2>/dev/null; }

# Sets `hits` and `misses` from the sidecar's own counters.
read_counters() {
  local page
  page=$(curl -sS "http://127.0.0.1:$admin_port/metrics")
  hits=$(awk '/^nearcached_l1_hits_total[{ ]/ { n += $NF } END { print n + 0 }' <<<"$page")
  misses=$(awk '/^nearcached_l1_misses_total[{ ]/ { n += $NF } END { print n + 0 }' <<<"$page")
}

expect() {  # WANTED GOT WHAT
  [[ $1 == "$2" ]] || die "$3: expected '$1', got '$2'"
}

# Prints a GET through the sidecar and how the counters moved with it. Sets `value` and `was_hit`.
shown_get() {
  local hits_before misses_before
  read_counters
  hits_before=$hits misses_before=$misses
  value=$(sidecar get "$key")
  read_counters
  was_hit=$((hits > hits_before))
  printf '  GET %s -> %-8s hits %s -> %s, misses %s -> %s\n' "$key" "$value" "$hits_before" "$hits" "$misses_before" "$misses"
}

show_hit() {
  local tries
  for ((tries = 0; tries < 20; ++tries)); do
    shown_get
    expect one "$value" "GET through the sidecar"
    if ((was_hit)); then return; fi
    sleep 0.1
  done
  sidecar info | sed -n '/^# nearcached/,$p'
  if curl -sS "http://127.0.0.1:$admin_port/metrics" | grep -q '^nearcached_coherence_mode{.*mode="off".*} 1$'; then
    echo "  this upstream has no tracking: every read goes there"
  else
    die "no GET was answered from L1"
  fi
}

milliseconds() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

show_foreign_write() {
  local begun answer
  answer=$(direct set "$key" two ex 600)
  printf '  SET %s two -> %s\n' "$key" "$answer"
  expect OK "$answer" "SET straight to the upstream"
  begun=$(milliseconds)
  value=$(sidecar get "$key")
  while [[ $value != two ]] && (($(milliseconds) - begun < 2000)); do value=$(sidecar get "$key"); done
  expect two "$value" "GET through the sidecar after a write past it"
  printf '  GET %s -> %s through the sidecar, %d ms after the write (the start of redis-cli included)\n' "$key" "$value" \
    $(($(milliseconds) - begun))
}

# Sets p50 to milliseconds.
measure_p50() {  # ARGUMENTS OF redis-benchmark
  interruptible timeout --foreground 60 redis-benchmark "$@" -n 20000 -c 4 --csv get "$key" >"$folder/p50" 2>&1 ||
    { tail -n 3 "$folder/p50" >&2; die "redis-benchmark failed"; }
  p50=$(tail -n 1 "$folder/p50" | awk -F'","' '{ print $(NF - 3) }')
}

# Straight to the owner of the key: the node that answers without MOVED.
show_latency() {
  local answer owner=("${direct_args[@]}")
  answer=$(cli "${direct_args[@]}" get "$key" 2>/dev/null)
  if [[ $answer =~ MOVED\ [0-9]+\ (.*):([0-9]+) ]]; then
    owner=(-h "${BASH_REMATCH[1]}" -p "${BASH_REMATCH[2]}")
    if [[ ${direct_args[1]} =~ ^redis://(.*)@ ]]; then owner=(-u "redis://${BASH_REMATCH[1]}@${owner[1]}:${owner[3]}"); fi
  fi
  measure_p50 -h 127.0.0.1 -p "$port"
  printf '  through the sidecar (hits)  %s ms\n' "$p50"
  measure_p50 "${owner[@]}"
  printf '  straight to the upstream    %s ms\n' "$p50"
  if ((${#node_pids[@]} > 0)); then
    echo "  both are loopback here: the network round trip that a hit saves is not in these figures"
  fi
}

demonstrate() {
  local answer
  key="nearcached:quickstart:$$"
  choose_direct
  say "a write through the sidecar"
  answer=$(sidecar set "$key" one ex 600)
  printf '  SET %s one -> %s\n' "$key" "$answer"
  expect OK "$answer" "SET through the sidecar"
  say "the first GET is a miss, the next a hit (counters from /metrics)"
  show_hit
  say "a write past the sidecar, straight to the upstream"
  show_foreign_write
  say "median of a GET, 4 connections"
  show_latency
  sidecar del "$key" >/dev/null
}

stay_up() {
  local cluster_hint="as given by --upstream"
  if ((${#node_ports[@]} > 0)); then cluster_hint="redis-cli -c -p ${node_ports[0]}"; fi
  say "nearcached is up"
  cat <<END
  talk to it     redis-cli -p $port            (or -3 for RESP3; any Redis client: redis://127.0.0.1:$port)
  its counters   curl http://127.0.0.1:$admin_port/metrics        also /stats, /readyz, /livez
  the upstream   $cluster_hint
  log            $folder/sidecar.log
  Ctrl-C ends all of it.
END
  wait "$sidecar_pid" || true
  tail -n 20 "$folder/sidecar.log" >&2
  die "nearcached has ended"
}

end_once() {
  local code=0
  kill -TERM "$sidecar_pid"
  wait "$sidecar_pid" || code=$?
  sidecar_pid=
  expect 0 "$code" "nearcached's exit code on SIGTERM"
  say "done"
}

parse_arguments "$@"
deploy/packages.sh build server
choose_ports
build_daemon
folder=$(mktemp -d "${TMPDIR:-/tmp}/nearcached-quickstart.XXXXXX")
if [[ -z $upstream ]]; then start_cluster; fi
start_sidecar
demonstrate
if [[ -n $once ]]; then end_once; else stay_up; fi
