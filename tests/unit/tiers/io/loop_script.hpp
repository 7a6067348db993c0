// Runs a loop through steps: each is asked at the end of every turn until it is true, then the next one. No thread, no
// sleep.
#pragma once

#include <cstddef>
#include <functional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "tiers/io/event_loop.hpp"

namespace nearcached::tiers::io::testing {

class LoopScript {
 public:
  using Step = std::function<bool()>;

  explicit LoopScript(EventLoop& loop) : loop_(loop) {}

  LoopScript& until(Step step) {
    steps_.push_back(std::move(step));
    return *this;
  }
  LoopScript& then(std::function<void()> action) {
    return until([action = std::move(action)] {
      action();
      return true;
    });
  }
  // Lets that many whole turns pass: what was to come from what is ready by now has come.
  LoopScript& turns(int count) {
    return until([left = count]() mutable { return left-- == 0; });
  }
  void run() {
    loop_.on_turn_end([this] { turn(); });
    loop_.post([] {});
    loop_.run();
    if (next_ != steps_.size()) throw std::runtime_error("step " + std::to_string(next_) + " never came true");
  }

 private:
  static constexpr int kTurnsMax = 200'000;

  void turn() {
    while (next_ < steps_.size() && steps_[next_]()) ++next_;
    if (next_ == steps_.size() || ++turns_ == kTurnsMax) {
      loop_.stop();
    } else {
      loop_.post([] {});
    }
  }

  EventLoop& loop_;
  std::vector<Step> steps_;
  std::size_t next_ = 0;
  int turns_ = 0;
};

}  // namespace nearcached::tiers::io::testing
