// When the topology is asked for next.
#pragma once

#include <chrono>
#include <functional>

namespace nearcached::tiers::upstream {

// Two wishes meet here: a poll at a steady pace, which finds changes that no traffic shows, and refreshes that workers ask
// for in bursts when a node dies (every connection to it breaks at once). The asked-for ones are coalesced into one round
// and spaced by `interval_min`; while rounds fail, the spacing doubles up to `interval_failing_max` and the next round needs
// no asking, so that recovery is noticed within that time however long the poll interval is. All spacings are jittered by
// 10 %, or the sidecars that lost the same node would keep asking in step. The first asked-for refresh after a quiet time is
// not delayed at all: it is one request per process.
//
// A refresh asked for while a round runs gets a round of its own: the running one may have been answered before the change.
//
// Pure: no clock, no random source of its own. Confined to one thread.
class RefreshSchedule {
 public:
  using Clock = std::chrono::steady_clock;
  using TimePoint = Clock::time_point;
  using Milliseconds = std::chrono::milliseconds;

  static constexpr double kJitter = 0.1;

  struct Options {
    Milliseconds poll_interval{1000};
    Milliseconds interval_min{50};            // at least 1 ms is used
    Milliseconds interval_failing_max{1000};  // at least interval_min is used
    std::function<double()> random;           // [0, 1)
  };

  // The first round is due at once.
  RefreshSchedule(Options options, TimePoint now);

  void ask() { asked_ = true; }
  // When the next round is to begin, possibly in the past; TimePoint::max() while one runs.
  [[nodiscard]] TimePoint due() const;
  // A round begins. True: somebody asked for it.
  bool begin(TimePoint now);
  void end(TimePoint now, bool good);

 private:
  [[nodiscard]] Clock::duration jittered(Milliseconds interval) const;

  Options options_;
  Milliseconds gap_;
  TimePoint next_poll_;
  TimePoint earliest_;  // no round before this, asked for or not
  TimePoint started_{};
  bool asked_ = false;
  bool running_ = false;
};

}  // namespace nearcached::tiers::upstream
