#include "tiers/upstream/refresh_schedule.hpp"

#include <algorithm>
#include <utility>

namespace nearcached::tiers::upstream {

RefreshSchedule::RefreshSchedule(Options options, TimePoint now)
    : options_(std::move(options)), next_poll_(now), earliest_(now) {
  options_.interval_min = std::max(options_.interval_min, Milliseconds{1});
  options_.interval_failing_max = std::max(options_.interval_failing_max, options_.interval_min);
  gap_ = options_.interval_min;
}

RefreshSchedule::TimePoint RefreshSchedule::due() const {
  if (running_) return TimePoint::max();
  return asked_ ? earliest_ : std::max(next_poll_, earliest_);
}

bool RefreshSchedule::begin(TimePoint now) {
  running_ = true;
  started_ = now;
  return std::exchange(asked_, false);
}

void RefreshSchedule::end(TimePoint now, bool good) {
  running_ = false;
  if (good) {
    gap_ = options_.interval_min;
    earliest_ = started_ + jittered(gap_);
    next_poll_ = started_ + jittered(options_.poll_interval);
    return;
  }
  // From the end of the round: one that spent seconds in timeouts would otherwise be followed by the next without a pause.
  gap_ = std::min(gap_ * 2, options_.interval_failing_max);
  earliest_ = now + jittered(gap_);
  next_poll_ = earliest_;
}

RefreshSchedule::Clock::duration RefreshSchedule::jittered(Milliseconds interval) const {
  const double factor = 1 - kJitter + 2 * kJitter * options_.random();
  return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double, std::milli>(interval) * factor);
}

}  // namespace nearcached::tiers::upstream
