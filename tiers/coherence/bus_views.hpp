// What nodes say themselves of the slot that their channel hangs on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::coherence {

// One per process. A fill link subscribes by its node's own view of its slots; whoever publishes on that node must go by the
// same view, not by the polled topology, which may be a second late or another node's: those who subscribed meanwhile would
// hear nothing. So the links leave here what their probes brought, and the publishers of all workers read it ahead of each
// write: two loads, no lock.
//
// A view is as old as the sending of the question. Bad at: a node whose fill link is lost; its view only ages.
// Threading: note() and of() any thread (a lock), the View itself any thread (without).
class BusViews {
 public:
  struct View {
    // The slot is stored first and loaded last: it is never older than asked_us says.
    std::atomic<std::uint16_t> lowest{0};
    std::atomic<std::int64_t> asked_us{0};  // CLOCK_BOOTTIME; 0: nobody has asked yet
  };

  static constexpr std::size_t kNodesMax = 1024;

  // The node says that `lowest` is the lowest of its slots.
  void note(const upstream::Endpoint& node, std::uint16_t lowest, std::int64_t asked_us) {
    const std::lock_guard lock(mutex_);
    View& view = *place(node);
    if (view.asked_us.load(std::memory_order_relaxed) > asked_us) return;
    view.lowest.store(lowest, std::memory_order_relaxed);
    view.asked_us.store(asked_us, std::memory_order_release);
  }

  // For a publisher, which keeps it.
  [[nodiscard]] std::shared_ptr<const View> of(const upstream::Endpoint& node) {
    const std::lock_guard lock(mutex_);
    return place(node);
  }

 private:
  // Where there are too many, those that no publisher keeps make room.
  [[nodiscard]] std::shared_ptr<View> place(const upstream::Endpoint& node) {
    if (views_.size() >= kNodesMax && !views_.contains(node)) {
      std::erase_if(views_, [](const auto& item) { return item.second.use_count() == 1; });
    }
    std::shared_ptr<View>& view = views_[node];
    if (!view) view = std::make_shared<View>();
    return view;
  }

  std::mutex mutex_;
  std::map<upstream::Endpoint, std::shared_ptr<View>> views_;  // guarded by mutex_; kNodesMax, and one for each publisher
};

}  // namespace nearcached::tiers::coherence
