// What every fill connection proves at this moment, readable by every worker.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <limits>
#include <mutex>
#include <optional>
#include <vector>

namespace nearcached::tiers::coherence {

// One row per fill connection. An entry names its row and the generation that read it, and stands on two proofs:
//
//   generation   bumped at every loss of the connection: what was read before is *unverified* in one store, at the loss and
//                not at the reconnect. A purge (FLUSHALL) besides makes it *dead*: known to be untrue, never served again.
//   proven       when the question was sent whose good answer showed that the node is the right one and that every push up
//                to then has been delivered. An entry is verified until then plus its policy's max_staleness.
//
// Unverified entries stay: they are read again on demand, and served meanwhile only where the policy is stale_ok. For these
// the row remembers how long ago each of its last kGenerationsKept generations was proven.
//
// `delivered` is less than proven, and newer: when the last command was sent that was answered at all. Reply and push share
// the connection, so all pushes up to then are here; who the node is, is another question. The causal level asks for it.
//
// Rows are reused; generations only grow, so an entry of a row's earlier owner never revives.
// Threading: a row is changed by the thread that owns its connection (and by purge_all), read by anybody.
class LinkTable {
 public:
  static constexpr std::uint16_t kLinksMax = 1024;
  static constexpr std::uint32_t kGenerationsKept = 8;
  // Of a connection that nobody tells of changes (ttl mode): its entries live by their deadline alone.
  static constexpr std::int64_t kForever = std::numeric_limits<std::int64_t>::max() / 2;

  // A free row, nothing if all are taken: then that node's keys are not cached.
  [[nodiscard]] std::optional<std::uint16_t> acquire();
  void release(std::uint16_t link);

  [[nodiscard]] std::uint32_t generation(std::uint16_t link) const noexcept {
    return rows_[link].generation.load(std::memory_order_acquire);
  }
  // The sending of the last good proof, 0 if there is none since the connection was lost.
  [[nodiscard]] std::int64_t proven_us(std::uint16_t link) const noexcept {
    return rows_[link].proven_us.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::int64_t delivered_us(std::uint16_t link) const noexcept {
    return rows_[link].delivered_us.load(std::memory_order_acquire);
  }
  // Known to be untrue, whatever the policy.
  [[nodiscard]] bool purged(std::uint16_t link, std::uint32_t generation) const noexcept {
    return generation < rows_[link].purged_below.load(std::memory_order_acquire);
  }
  // When entries of this generation were proven last; 0 if that is forgotten.
  [[nodiscard]] std::int64_t last_proof_us(std::uint16_t link, std::uint32_t generation) const noexcept;

  void prove(std::uint16_t link, std::int64_t sent_us) noexcept {
    rows_[link].proven_us.store(sent_us, std::memory_order_release);
  }
  void deliver(std::uint16_t link, std::int64_t sent_us) noexcept {
    rows_[link].delivered_us.store(sent_us, std::memory_order_release);
  }
  // Everything that was read so far is unverified; what is read from now on may live.
  void unverify(std::uint16_t link) noexcept;
  // Everything that was read so far is dead.
  void purge(std::uint16_t link) noexcept;
  void purge_all() noexcept;
  // The connection is gone: nothing is proven any more.
  void lose(std::uint16_t link) noexcept;

 private:
  struct alignas(64) Row {
    std::atomic<std::uint32_t> generation{1};
    std::atomic<std::uint32_t> purged_below{0};
    std::atomic<std::int64_t> proven_us{0};
    std::atomic<std::int64_t> delivered_us{0};
    std::array<std::atomic<std::int64_t>, kGenerationsKept> last_proofs_us{};  // by generation % kGenerationsKept
  };
  std::array<Row, kLinksMax> rows_{};
  std::mutex mutex_;
  std::vector<std::uint16_t> free_;     // guarded by mutex_
  std::atomic<std::uint16_t> used_{0};  // rows handed out at least once; grows under mutex_
};

}  // namespace nearcached::tiers::coherence
