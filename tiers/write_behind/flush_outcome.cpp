#include "tiers/write_behind/flush_outcome.hpp"

#include <algorithm>
#include <array>

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::array<std::string_view, 14> kPassing{
    "ASK",    "BUSY",       "CLUSTERDOWN", "LOADING",  "MASTERDOWN", "MISCONF",   "MOVED",
    "NOAUTH", "NOREPLICAS", "READONLY",    "TRYAGAIN", "UNKILLABLE", "WRONGPASS", "ERR max number of clients reached"};

}  // namespace

FlushOutcome flush_outcome(std::string_view reply, bool failed) {
  if (failed) return FlushOutcome::kAgain;
  if (!reply.starts_with('-')) return FlushOutcome::kApplied;
  const std::string_view error = reply.substr(1);
  const bool passing = std::any_of(kPassing.begin(), kPassing.end(), [&](std::string_view code) {
    return error.starts_with(code) &&
           (error.size() == code.size() || error[code.size()] == ' ' || error[code.size()] == '\r');
  });
  return passing ? FlushOutcome::kAgain : FlushOutcome::kNever;
}

}  // namespace nearcached::tiers::write_behind
