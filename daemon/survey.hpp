// Asking all workers, each on its own thread.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/worker.hpp"

namespace nearcached::daemon {

// Visits all workers, one after the other, each on its own thread; then `then` on the asker's. One at a time, so that what
// is collected needs no lock. Who asks lives until `then`.
struct Survey {
  std::function<void(Worker&)> visit;
  std::function<void()> then;
};

inline void survey(const std::vector<Worker*>& workers, std::size_t at, Worker& home, std::shared_ptr<Survey> what) {
  if (at == workers.size()) {
    home.loop().post([what = std::move(what)] { what->then(); });
    return;
  }
  workers[at]->loop().post([&workers, at, &home, what = std::move(what)] {
    what->visit(*workers[at]);
    survey(workers, at + 1, home, what);
  });
}

}  // namespace nearcached::daemon
