#!/bin/sh
# The miss ratios of the daemon's own policy over a folder of traces, next to the best published policy of each.
#
#   loadtest/hit_ratio.sh TRACES_DIR [L1_REPLAY [SHARDS]]
#
# TRACES_DIR holds NAME.txt.zst and reference.csv (trace,capacity_kind,capacity,policy,miss_ratio). Writes
# loadtest/hit_ratio.csv and prints the mean regret in points: "mean" counts a better result as negative, "mean of losses" as 0.
set -eu
traces=${1:?usage: loadtest/hit_ratio.sh TRACES_DIR [L1_REPLAY [SHARDS]]}
here=$(cd "$(dirname "$0")" && pwd)
replay=${2:-$here/../build/release/l1_replay}
shards=${3:-1}
out=$here/hit_ratio.csv

# Belady's are bounds and not policies; prototypes of this one are no rivals either.
awk -F, '($2 == "objects" || $2 == "bytes_max10") && $4 !~ /^(Belady|Hybrid)/ {
           cell = $1 "," $2 "," $3
           if (!(cell in best) || $5 < best[cell]) { best[cell] = $5; name[cell] = $4 }
         }
         END { for (cell in best) print cell "," name[cell] "," best[cell] }' "$traces/reference.csv" |
  sort -t, -k1,1 -k2,2 -k3,3n |
  {
    echo "trace,capacity_kind,capacity,best_published,best_miss_ratio,miss_ratio,regret_points"
    while IFS=, read -r trace kind capacity name best; do
      flag=--objects
      if [ "$kind" = bytes_max10 ]; then flag=--bytes; fi
      ratio=$("$replay" --trace "$traces/$trace.txt.zst" "$flag" "$capacity" --shards "$shards" | awk '$1 == "miss_ratio" { print $2 }')
      echo "$trace,$kind,$capacity,$name,$best,$ratio,$(awk -v a="$ratio" -v b="$best" 'BEGIN { printf "%.2f", 100 * (a - b) }')"
    done
  } >"$out"

awk -F, 'NR > 1 { n[$2]++; sum[$2] += $7; if ($7 > 0) loss[$2] += $7 }
         END { for (k in n) printf "%s: %d cells, mean regret %.3f points, mean of losses %.3f\n", k, n[k], sum[k] / n[k], loss[k] / n[k] }' "$out"
