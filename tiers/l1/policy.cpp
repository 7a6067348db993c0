#include "tiers/l1/policy.hpp"

#include <algorithm>
#include <bit>

namespace nearcached::tiers::l1 {
namespace {

constexpr std::uint32_t kNone = PolicyItems::kNone;

constexpr std::uint64_t kProbationPercent = 8;
constexpr std::size_t kGhostsPerItem = 2;
constexpr std::size_t kGhostsMin = 16;
// One victim() re-stamps or promotes at most so many before it takes one that was hit: the critical section stays short even
// when everything has been hit since.
constexpr int kStepsMax = 64;
// A ghost that comes back has been asked for at least twice.
constexpr std::uint8_t kFrequencyOfReturn = 2;
// More than this much past popularity would outlive its time.
constexpr std::uint8_t kFrequencyMax = 15;
// How many times denser than the main area's next victim an item must be to enter it without a hit. Small factors fill the
// main area with one-hit wonders that happen to be small.
constexpr std::uint64_t kDenseFactor = 16;

// Ranks are fixed-point and wrap: what one item gains lies in 1..2^30, so that signed differences order all that live.
constexpr std::uint32_t kCostOfClassZero = 64;
constexpr std::uint64_t kGainOfOneUse = std::uint64_t{1} << 26;  // at kCostOfClassZero

static_assert(kGainOfOneUse * kFrequencyMax <= std::uint64_t{1} << 30);

bool before(std::uint32_t a, std::uint32_t b) { return static_cast<std::int32_t>(a - b) < 0; }

std::uint32_t gain(std::uint32_t frequency, std::uint32_t cost) {
  const std::uint64_t value = kGainOfOneUse * frequency * kCostOfClassZero / std::max(cost, kCostOfClassZero);
  return static_cast<std::uint32_t>(std::max<std::uint64_t>(value, 1));
}

// 0 up to kCostOfClassZero, then one class per doubling.
int size_class(std::uint32_t cost, int classes) {
  if (cost <= kCostOfClassZero) return 0;
  return std::min<int>(static_cast<int>(std::bit_width((cost - 1) / kCostOfClassZero)), classes - 1);
}

}  // namespace

Policy::Policy(PolicyItems& items) : owner_(items) {}

void Policy::insert(std::uint32_t handle, bool roomy) noexcept {
  PolicyNode& node = owner_.node(handle);
  ++items_;
  node.frequency = 1;
  if (ghosts_.take(owner_.fingerprint(handle))) {
    node.frequency = kFrequencyOfReturn;
    enter_main(handle);
  } else if (roomy) {
    enter_main(handle);
  } else {
    push(handle, kProbation);
  }
}

void Policy::erase(std::uint32_t handle, bool remember) noexcept {
  const PolicyNode& node = owner_.node(handle);
  const bool proven = node.frequency > 1 || node.uses.load(std::memory_order_relaxed) != 0;
  if (remember && proven) ghosts_.add(owner_.fingerprint(handle));
  unlink(handle, owner_.cost(handle));
  --items_;
}

void Policy::replaced(std::uint32_t handle, std::uint32_t old_cost) noexcept {
  PolicyNode& node = owner_.node(handle);
  unlink(handle, old_cost);
  if (node.queue == kProbation) {
    push(handle, kProbation);
  } else {
    enter_main(handle);
  }
}

void Policy::moved(std::uint32_t from, std::uint32_t to) noexcept {
  const PolicyNode& node = owner_.node(to);
  Queue& queue = queues_[node.queue];
  if (node.prev != kNone) {
    owner_.node(node.prev).next = to;
  } else if (queue.tail == from) {
    queue.tail = to;
  }
  if (node.next != kNone) {
    owner_.node(node.next).prev = to;
  } else if (queue.head == from) {
    queue.head = to;
  }
}

void Policy::remap(std::span<const std::uint32_t> map) noexcept {
  const auto follow = [map](std::uint32_t& handle) {
    if (handle != kNone) handle = map[handle];
  };
  for (const std::uint32_t handle : map) {
    if (handle == kNone) continue;
    follow(owner_.node(handle).prev);
    follow(owner_.node(handle).next);
  }
  for (Queue& queue : queues_) {
    follow(queue.head);
    follow(queue.tail);
  }
}

std::uint32_t Policy::victim() noexcept {
  bool from_main = false;  // a promotion without a hit is paid for by the main area
  for (int step = 0;; ++step) {
    if (probation_cost_ + main_cost_ == 0) return kNone;
    const bool probation_full = probation_cost_ * 100 > kProbationPercent * cost();
    if (main_cost_ == 0 || (probation_full && !from_main)) {
      const std::uint32_t handle = queues_[kProbation].tail;
      PolicyNode& node = owner_.node(handle);
      const bool hit = node.uses.exchange(0, std::memory_order_relaxed) != 0;
      from_main = !hit && step < kStepsMax && main_cost_ != 0 && denser_than_main(handle);
      unlink(handle, owner_.cost(handle));
      if (from_main || (hit && step < kStepsMax)) {
        enter_main(handle);
        continue;
      }
      ghosts_.add(owner_.fingerprint(handle));
      --items_;
      return handle;
    }
    const std::uint32_t handle = queues_[lowest_queue()].tail;
    PolicyNode& node = owner_.node(handle);
    const std::uint32_t item_cost = owner_.cost(handle);
    const bool hit = node.uses.exchange(0, std::memory_order_relaxed) != 0;
    const bool heavy = std::uint64_t{item_cost} * items_ > cost() + cost() / 10;
    unlink(handle, item_cost);
    if (hit && step < kStepsMax) {
      if (node.frequency < kFrequencyMax) ++node.frequency;
      enter_main(handle);
      continue;
    }
    if (before(clock_, node.rank)) clock_ = node.rank;
    if (heavy) ghosts_.add(owner_.fingerprint(handle));
    --items_;
    return handle;
  }
}

std::size_t Policy::ghosts_wanted() const noexcept { return std::max(kGhostsMin, items_ * kGhostsPerItem); }

std::size_t Policy::ghost_step_bytes() const noexcept {
  const std::size_t wanted = ghosts_wanted();
  const bool due = wanted > ghosts_.capacity() + ghosts_.capacity() / 4 || wanted < ghosts_.capacity() / 4;
  return due ? Ghosts::bytes_for(wanted) : 0;
}

void Policy::resize_ghosts() noexcept {
  // Without memory the old list stays: fewer ghosts than wanted are a worse choice, not an error.
  (void)ghosts_.resize(ghosts_wanted());
}

void Policy::push(std::uint32_t handle, std::uint8_t index) noexcept {
  PolicyNode& node = owner_.node(handle);
  Queue& queue = queues_[index];
  node.queue = index;
  node.next = kNone;
  node.prev = queue.head;
  if (queue.head != kNone) {
    owner_.node(queue.head).next = handle;
  } else {
    queue.tail = handle;
    queue.tail_rank = node.rank;
    if (index != kProbation) occupied_[index / 64u] |= std::uint64_t{1} << (index % 64u);
  }
  queue.head = handle;
  (index == kProbation ? probation_cost_ : main_cost_) += owner_.cost(handle);
}

void Policy::unlink(std::uint32_t handle, std::uint32_t item_cost) noexcept {
  const PolicyNode& node = owner_.node(handle);
  Queue& queue = queues_[node.queue];
  if (node.next != kNone) {
    owner_.node(node.next).prev = node.prev;
  } else {
    queue.head = node.prev;
  }
  if (node.prev != kNone) {
    owner_.node(node.prev).next = node.next;
  } else {
    queue.tail = node.next;
    refresh_tail_rank(queue);
  }
  if (queue.tail == kNone && node.queue != kProbation)
    occupied_[node.queue / 64u] &= ~(std::uint64_t{1} << (node.queue % 64u));
  (node.queue == kProbation ? probation_cost_ : main_cost_) -= item_cost;
}

void Policy::refresh_tail_rank(Queue& queue) noexcept {
  if (queue.tail != kNone) queue.tail_rank = owner_.node(queue.tail).rank;
}

void Policy::enter_main(std::uint32_t handle) noexcept {
  PolicyNode& node = owner_.node(handle);
  const std::uint32_t item_cost = owner_.cost(handle);
  node.rank = clock_ + gain(node.frequency, item_cost);
  const int frequency_class = std::bit_width(static_cast<unsigned>(node.frequency)) - 1;
  push(handle, static_cast<std::uint8_t>(1 + size_class(item_cost, kSizeClasses) * kFrequencyClasses + frequency_class));
}

std::uint8_t Policy::lowest_queue() noexcept {
  std::uint32_t best = kNone;
  for (std::size_t word = 0; word < occupied_.size(); ++word) {
    for (std::uint64_t left = occupied_[word]; left != 0; left &= left - 1) {
      const auto index = static_cast<std::uint32_t>(word * 64) + static_cast<std::uint32_t>(std::countr_zero(left));
      if (best == kNone || before(queues_[index].tail_rank, queues_[best].tail_rank)) best = index;
    }
  }
  return static_cast<std::uint8_t>(best);
}

bool Policy::denser_than_main(std::uint32_t handle) noexcept {
  const std::uint32_t rival = queues_[lowest_queue()].tail;
  const std::uint64_t rival_cost = std::max(owner_.cost(rival), kCostOfClassZero);
  const std::uint64_t own_cost = std::max(owner_.cost(handle), kCostOfClassZero);
  return rival_cost > kDenseFactor * owner_.node(rival).frequency * own_cost;
}

}  // namespace nearcached::tiers::l1
