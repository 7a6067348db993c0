// What every fill connection proves at this moment, readable by every worker.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>
#include <optional>
#include <vector>

namespace nearcached::tiers::coherence {

// One row per fill connection: its generation and until when it is verified. An entry names its row and the generation that
// read it; it may be served while the generation is the same and the verification has not run out. A lost connection bumps
// the generation: all its entries are dead in one store, at the loss and not at the reconnect.
//
// Rows are reused; generations only grow, so an entry of a row's earlier owner never revives.
// Threading: a row is changed by the thread that owns its connection (and by bump_all), read by anybody.
class LinkTable {
 public:
  static constexpr std::uint16_t kLinksMax = 1024;

  // A free row, nothing if all are taken: then that node's keys are not cached.
  [[nodiscard]] std::optional<std::uint16_t> acquire();
  void release(std::uint16_t link);

  [[nodiscard]] std::uint32_t generation(std::uint16_t link) const noexcept {
    return rows_[link].generation.load(std::memory_order_acquire);
  }
  // May an entry of this generation be served at `now_us`?
  [[nodiscard]] bool proves(std::uint16_t link, std::uint32_t generation, std::int64_t now_us) const noexcept {
    const Row& row = rows_[link];
    return row.generation.load(std::memory_order_acquire) == generation &&
           now_us < row.verified_until_us.load(std::memory_order_acquire);
  }
  [[nodiscard]] std::int64_t verified_until_us(std::uint16_t link) const noexcept {
    return rows_[link].verified_until_us.load(std::memory_order_acquire);
  }

  void verify_until(std::uint16_t link, std::int64_t until_us) noexcept {
    rows_[link].verified_until_us.store(until_us, std::memory_order_release);
  }
  // Everything that was read so far is dead; what is read from now on may live.
  void bump(std::uint16_t link) noexcept { rows_[link].generation.fetch_add(1, std::memory_order_acq_rel); }
  void bump_all() noexcept;
  // The connection is gone: nothing is verified any more.
  void lose(std::uint16_t link) noexcept {
    verify_until(link, 0);
    bump(link);
  }

 private:
  struct alignas(64) Row {
    std::atomic<std::uint32_t> generation{1};
    std::atomic<std::int64_t> verified_until_us{0};
  };
  std::array<Row, kLinksMax> rows_{};
  std::mutex mutex_;
  std::vector<std::uint16_t> free_;     // guarded by mutex_
  std::atomic<std::uint16_t> used_{0};  // rows handed out at least once; grows under mutex_
};

}  // namespace nearcached::tiers::coherence
