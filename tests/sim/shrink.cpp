#include "tests/sim/shrink.hpp"

#include <algorithm>

namespace nearcached::sim {

Script shrink(const Script& script, const std::function<bool(const Script&)>& fails, int tries_max) {
  Script least = script;
  int tries = 0;
  for (std::size_t piece = std::max<std::size_t>(1, least.actions.size() / 2);; piece /= 2) {
    bool smaller = true;
    while (smaller) {
      smaller = false;
      for (std::size_t at = 0; at < least.actions.size() && tries < tries_max;) {
        Script candidate = least;
        const auto from = candidate.actions.begin() + static_cast<std::ptrdiff_t>(at);
        const auto to =
            candidate.actions.begin() + static_cast<std::ptrdiff_t>(std::min(at + piece, candidate.actions.size()));
        candidate.actions.erase(from, to);
        ++tries;
        if (fails(candidate)) {
          least = std::move(candidate);
          smaller = true;
        } else {
          at += piece;
        }
      }
      smaller = smaller && tries < tries_max;
    }
    if (piece == 1 || tries >= tries_max) return least;
  }
}

}  // namespace nearcached::sim
