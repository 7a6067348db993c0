#include "tiers/l1/epoch.hpp"

#include <atomic>

#include "tiers/l1/assertion.hpp"

namespace nearcached::tiers::l1 {
namespace {

struct alignas(64) Slot {
  std::atomic<std::uint64_t> epoch{0};  // 0: not reading
  std::atomic<bool> taken{false};
};

constinit Slot slots[Epoch::kThreadsMax];
constinit std::atomic<int> slots_used{0};  // high-water mark, so that a scan is as long as there were threads
alignas(64) constinit std::atomic<std::uint64_t> global_epoch{1};

// Trivial, so that the hot path needs no initialisation guard.
struct Membership {
  Slot* slot;
  std::uint32_t depth;
};
constinit thread_local Membership membership{nullptr, 0};

// Gives the slot back when the thread ends.
class Registration {
 public:
  Registration() {
    for (int i = 0; i < Epoch::kThreadsMax; ++i) {
      if (slots[i].taken.exchange(true, std::memory_order_acq_rel)) continue;
      int used = slots_used.load();
      while (used <= i && !slots_used.compare_exchange_weak(used, i + 1)) {}
      membership.slot = &slots[i];
      return;
    }
    require(false, "more threads read the L1 than Epoch::kThreadsMax");
  }
  ~Registration() {
    membership.slot->epoch.store(0, std::memory_order_release);
    membership.slot->taken.store(false, std::memory_order_release);
    membership.slot = nullptr;
  }
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;
};

void register_thread() { static thread_local Registration registration; }

}  // namespace

void Epoch::enter() noexcept {
  if (membership.depth++ != 0) return;
  if (membership.slot == nullptr) register_thread();
  // An outdated epoch is only more careful: it holds the epoch back sooner.
  membership.slot->epoch.store(global_epoch.load(std::memory_order_seq_cst), std::memory_order_seq_cst);
}

void Epoch::leave() noexcept {
  if (--membership.depth == 0) membership.slot->epoch.store(0, std::memory_order_release);
}

std::uint64_t Epoch::current() noexcept { return global_epoch.load(std::memory_order_seq_cst); }

bool Epoch::try_advance() noexcept {
  std::uint64_t epoch = global_epoch.load(std::memory_order_seq_cst);
  const int used = slots_used.load(std::memory_order_seq_cst);
  for (int i = 0; i < used; ++i) {
    const std::uint64_t reading = slots[i].epoch.load(std::memory_order_seq_cst);
    if (reading != 0 && reading != epoch) return false;
  }
  return global_epoch.compare_exchange_strong(epoch, epoch + 1, std::memory_order_seq_cst);
}

}  // namespace nearcached::tiers::l1
