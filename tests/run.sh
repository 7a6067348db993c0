#!/bin/bash
# Installs what is missing, builds and runs every test; the last line is "N passed, M failed".
#     tests/run.sh [--only STAGE...] [--jobs N]
# Stages, in this order:
#     style       layers, sizes, names (tests/style)
#     unit sim mock redis clients chaos crash quickstart      on the release build
#     asan tsan   unit, mock and redis tests on a sanitized build, against the sanitized daemon
#     fuzz        every fuzz target for a bounded time
# N and M count test cases, sanitizer reports and builds that failed. Logs: build/<preset>/*.log. A build is made once per
# run; ccache makes the next one short. Where no redis-server is to be had, tests that need one are skipped and say so;
# with CI=true they fail. Clients of npm are skipped where npm or its packages can't be had.
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1

readonly all_stages=(style unit sim mock redis clients chaos crash quickstart asan tsan fuzz)
readonly fuzz_seconds=20  # per target
jobs=$(nproc)
stages=()
passed=0
failed=0
skipped=0
broken_builds=' '
made_builds=' '

usage() {
  sed -n '2,11s/^# \{0,1\}//p' "$0"
  exit "$1"
}

parse_arguments() {
  while (($# > 0)); do
    case $1 in
      --only)
        shift
        while (($# > 0)) && [[ $1 != --* ]]; do
          [[ " ${all_stages[*]} " == *" $1 "* ]] || { echo "run.sh: no stage is called '$1'" >&2; usage 2 >&2; }
          stages+=("$1")
          shift
        done
        ((${#stages[@]} > 0)) || usage 2 >&2
        ;;
      --jobs)
        [[ ${2:-} =~ ^[1-9][0-9]*$ ]] || usage 2 >&2
        jobs=$2
        shift 2
        ;;
      -h | --help) usage 0 ;;
      *) usage 2 >&2 ;;
    esac
  done
  ((${#stages[@]} > 0)) || stages=("${all_stages[@]}")
}

say() { printf '%s  %s\n' "$(date +%T)" "$*"; }

fail() {  # WHAT [LOG]
  failed=$((failed + 1))
  say "FAILED: $1"
  if [[ -s ${2:-} ]]; then
    echo "--- the end of $2"
    tail -n 60 "$2"
    echo "---"
  fi
}

install_packages() {
  deploy/packages.sh build server check && return
  # Offline and complete but for a server is a laptop; anything else shows itself when the build fails.
  say "not all packages could be installed; going on with what is here"
}

# Once per preset and run.
build() {  # PRESET
  local preset=$1 log=build/$1/build.log begun=$SECONDS options=(-DNEARCACHED_TESTS=ON) targets=()
  [[ $made_builds == *" $preset "* ]] && return 0
  [[ $broken_builds == *" $preset "* ]] && return 1
  if [[ $preset == fuzz ]]; then
    options+=("-DNEARCACHED_FUZZ_SECONDS=$fuzz_seconds")
    targets=(--target fuzzers)
  fi
  mkdir -p "build/$preset"
  if cmake --preset "$preset" "${options[@]}" >"$log" 2>&1 &&
    cmake --build "build/$preset" -j "$jobs" "${targets[@]}" >>"$log" 2>&1; then
    made_builds+="$preset "
    say "built $preset in $((SECONDS - begun)) s"
  else
    broken_builds+="$preset "
    fail "the $preset build" "$log"
    return 1
  fi
}

# Sanitizers write what they find beside the build: a report of a daemon that a test has killed counts as well.
export_sanitizer_options() {  # DIRECTORY
  local common="log_path=$PWD/$1/sanitizer:exitcode=86"
  export ASAN_OPTIONS="$common:detect_stack_use_after_return=1:strict_string_checks=1"
  export UBSAN_OPTIONS="$common:print_stacktrace=1"
  export TSAN_OPTIONS="$common:second_deadlock_stack=1:history_size=4:suppressions=$PWD/tests/support/tsan_suppressions.txt"
  rm -f "$1"/sanitizer.*
}

count_sanitizer_reports() {  # DIRECTORY
  local report
  for report in "$1"/sanitizer.*; do
    if [[ -s $report ]]; then fail "a sanitizer's report" "$report"; fi
  done
}

# g++ 12's thread sanitizer does not know address spaces as random as newer kernels make them.
without_aslr() {
  if setarch "$(uname -m)" -R true 2>/dev/null; then
    setarch "$(uname -m)" -R "$@"
  else
    "$@"
  fi
}

run_label() {  # PRESET LABEL JOBS
  local preset=$1 label=$2 directory=build/$1 begun=$SECONDS
  local log=$directory/ctest-$label.log junit=$directory/junit-$label.xml runner=()
  local label_passed=0 label_failed=0 label_skipped=0
  [[ $preset != tsan ]] || runner=(without_aslr)
  rm -f "$junit"
  NEARCACHED_BINARY=$PWD/$directory/nearcached "${runner[@]}" ctest --test-dir "$directory" -L "^$label\$" -j "$3" \
    --no-tests=error --output-on-failure --output-junit "$PWD/$junit" \
    --test-output-size-passed 1000000 --test-output-size-failed 1000000 >"$log" 2>&1 </dev/null
  if ! read -r label_passed label_failed label_skipped < <(python3 tests/count_cases.py "$junit" 2>>"$log"); then
    fail "$preset $label: no result" "$log"
    return
  fi
  passed=$((passed + label_passed))
  failed=$((failed + label_failed))
  skipped=$((skipped + label_skipped))
  # Clients of npm need a registry that can be reached: no fault of this tree.
  if [[ ${CI:-} == true && $2 != clients ]]; then failed=$((failed + label_skipped)); fi
  say "$preset $label: $label_passed passed, $label_failed failed, $label_skipped skipped in $((SECONDS - begun)) s"
  if ((label_failed > 0)); then
    grep -n -A 20 -E 'FAILED:|Error:|AssertionError|Timeout' "$log" | head -n 150
    echo "--- the end of $log"
    tail -n 25 "$log"
  fi
}

# Real servers and clocks: those labels run one test at a time.
run_sanitized() {  # PRESET
  build "$1" || return
  export_sanitizer_options "build/$1"
  run_label "$1" unit "$jobs"
  run_label "$1" mock 1
  run_label "$1" redis 1
  unset ASAN_OPTIONS UBSAN_OPTIONS TSAN_OPTIONS
  count_sanitizer_reports "build/$1"
}

run_quickstart() {
  local log=build/release/quickstart.log begun=$SECONDS
  if deploy/quickstart.sh --once --replicas 1 --port 0 --admin-port 0 >"$log" 2>&1 </dev/null; then
    passed=$((passed + 1))
    say "quickstart: 1 passed in $((SECONDS - begun)) s"
  else
    fail quickstart "$log"
  fi
}

run_stage() {
  case $1 in
    style) build release && run_label release style "$jobs" ;;
    unit) build release && run_label release unit "$jobs" ;;
    sim | mock | redis | clients | chaos | crash) build release && run_label release "$1" 1 ;;
    quickstart) build release && run_quickstart ;;
    asan | tsan) run_sanitized "$1" ;;
    fuzz) build fuzz && run_label fuzz fuzz "$jobs" ;;
  esac
}

parse_arguments "$@"
if [[ ${CI:-} == true ]]; then export NEARCACHED_CI=1; fi
install_packages
for stage in "${stages[@]}"; do
  run_stage "$stage"
done
say "all stages in $SECONDS s, $skipped skipped"
echo "$passed passed, $failed failed"
((failed == 0 && passed > 0))
