#!/bin/sh
# Regenerates loadtest/RESULTS.md and its plots: loadtest/compare.sh --help
# Builds the programs of this folder if need be; nearcached itself is taken from build/release as it is.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
build=${NEARCACHED_BUILD:-$root/build/release}
case " $* " in *" --help "*) ;; *)
  programs="nearcached_load nearcached_bare_loop nearcached_delay_proxy nearcached_connection_storm invalidation_delay l1_replay"
  for program in $programs; do
    if [ ! -x "$build/$program" ]; then
      [ -f "$build/build.ninja" ] || (cd "$root" && cmake --preset release -B "$build" >/dev/null)
      # shellcheck disable=SC2086
      cmake --build "$build" --target $programs >&2
      break
    fi
  done ;;
esac
exec /usr/bin/python3 "$root/loadtest/run_all.py" --build "$build" "$@"
