// Writes that are answered and not upstream yet.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace nearcached::tiers::write_behind {

// What a key is to become.
struct Write {
  enum class Kind : std::uint8_t { kSet, kDelete };
  Kind kind = Kind::kSet;
  std::string value;               // of kSet
  std::int64_t expires_at_ms = 0;  // unix; 0: never

  // As Redis sees it: in the very millisecond it is still there.
  [[nodiscard]] bool expired(std::int64_t now_ms) const { return expires_at_ms != 0 && expires_at_ms < now_ms; }
  // With it the key exists.
  [[nodiscard]] bool there(std::int64_t now_ms) const { return kind == Kind::kSet && !expired(now_ms); }
};
using WritePtr = std::shared_ptr<const Write>;

enum class Priority : std::uint8_t { kHigh, kNormal, kLow };
inline constexpr std::size_t kPriorities = 3;

struct QueueKey {
  std::uint32_t database = 0;
  std::string_view key;
};

struct QueueOptions {
  std::size_t batch_records = 100;             // so many of a node leave at once, 1 or more
  std::int64_t batch_interval_us = 1'000'000;  // ... or when the oldest of them has waited so long
  std::size_t in_flight_max = 1000;            // of a node, batch_records or more
  std::size_t records_max = 1'000'000;         // keys that wait or are in flight
  std::size_t bytes_max = 256u << 20;          // of their keys and values
  std::int64_t max_age_us = 60'000'000;        // the oldest one may be so old before no more are taken
};

// By number: 0, 1, 2..3, 4..7, and so on; the last is 16384 and more.
using SizeHistogram = std::array<std::uint64_t, 16>;

struct QueueStats {
  std::size_t records = 0;  // keys that wait or are in flight
  std::size_t bytes = 0;    // of their keys and values
  std::size_t in_flight = 0;
  std::int64_t oldest_us = 0;  // since when the oldest waits, in the clock of the callers; 0: none does
  std::uint64_t accepted = 0;
  std::uint64_t coalesced = 0;  // accepted writes that a later one of the key replaced before they left
  std::uint64_t flushed = 0;
  std::uint64_t retries = 0;
  std::uint64_t dead = 0;
  std::uint64_t full = 0;    // writes that were not taken because of a limit
  std::uint64_t behind = 0;  // accepted ones that wait behind another one of their key, which is in flight
  std::uint64_t sent = 0;
  SizeHistogram batches{};  // writes that left together

  // Accepted writes of which nothing is known any more. Each is waiting, replaced, upstream or a dead letter: it is 0.
  [[nodiscard]] std::int64_t dropped() const noexcept {
    return static_cast<std::int64_t>(accepted - coalesced - flushed - dead - records - behind);
  }
};

// One entry a key, the last write wins. An entry is
//
//     put() ---------> waiting ---take()---> in flight ---flushed()---> logged ---checkpointed()---> gone
//                        ^  ^                  |    |                     |
//                        |  +----- failed() ---+    +-- flushed(), and a later write had come meanwhile --> waiting
//                        +-------------------------------- put() ---------+
//
// Order: a key has at most one write in flight, and what is in flight is older than what waits; so the upstream sees a
// key's writes in the order in which they were put, with some left out. Between keys there is none.
//
// Batches are per node: a node's writes leave when there are batch_records of them, when the oldest is batch_interval_us
// old, or when somebody waits for them. In a burst (more than batch_records within 10 ms, and again) they leave by their age
// alone: what is written that fast is likely to be written again, and the upstream is spared what is replaced. A node that
// failed rests for a while, longer each time, and then begins with one batch again, twice as much with each that succeeds:
// what piled up in an outage does not come over it at once.
//
// Sequences are those of the log, taken while the queue is locked: so the log has a key's records in the queue's order. A
// logged entry is upstream, but a restart would write it once more: a direct write of the key must first make a
// superseding record durable (coherence.md, Write-behind).
//
// What it is bad at: one mutex. A put holds it for a map lookup and the copying of a record into the log's buffer; what is
// flushed takes it once a batch; reads of keys that are not dirty never do (may_be_dirty).
//
// Bounds: records_max, bytes_max, max_age_us: put() says kFull, and what waits leaves at once. Logged entries are bounded by
// the log's size. Threading: all functions from any thread. Callbacks are called without the lock, by who made them due.
class WriteQueue {
 public:
  struct Entry;                                           // opaque
  using Append = std::function<std::uint64_t(QueueKey)>;  // to the log: its sequence, 0 if it was refused
  using Callback = std::function<void()>;
  struct NewWrite {
    QueueKey key;
    std::uint16_t node = 0;  // where it goes to, as take() will ask for it
    Priority priority = Priority::kNormal;
    WritePtr write;
    std::optional<std::uint64_t> follows = {};  // only if that is the sequence of the key's pending write; 0: if it has none
  };
  enum class Put : std::uint8_t {
    kAccepted,
    kFull,     // records_max, bytes_max or max_age_us
    kRefused,  // by `append`
    kChanged,  // it would follow another write than `follows`
  };
  struct PutResult {
    Put put = Put::kFull;
    std::uint64_t sequence = 0;
    bool older_logged = false;  // so is a record of the key that is older: a restart may replay it
  };
  struct Pending {
    WritePtr write;
    std::uint64_t sequence = 0;
    bool older_logged = false;
  };
  struct Flight {
    Entry* entry = nullptr;  // until flushed(), failed() or gave_up()
    std::uint32_t database = 0;
    std::string_view key;  // as long
    WritePtr write;
    std::uint64_t sequence = 0;
  };

  explicit WriteQueue(const QueueOptions& options);
  ~WriteQueue();
  WriteQueue(const WriteQueue&) = delete;
  WriteQueue& operator=(const WriteQueue&) = delete;

  // Called, from any thread and without the lock, with a node of which take() has something to give at once. Set before
  // anything else is called.
  void on_urgent(std::function<void(std::uint16_t node)> tell) { urgent_ = std::move(tell); }

  // What the key is to become.
  [[nodiscard]] PutResult put(NewWrite write, std::int64_t now_us, const Append& append);
  // What the last process had not flushed, in the order of the sequences, before anything is put. No limit applies.
  void restore(QueueKey key, WritePtr write, std::uint64_t sequence, std::int64_t now_us);
  // False: no write of the key, in whatever database, waits or is in flight. No lock. True from before put() returns until
  // within flushed().
  [[nodiscard]] bool may_be_dirty(std::string_view key) const noexcept { return unflushed_.may_have(hash_of(key)); }
  // What is to become of a key, if that is not upstream yet.
  [[nodiscard]] std::optional<Pending> find(QueueKey key) const;

  // What is to be sent to the node now, in this order; nothing if it is not time yet. Nothing whose sequence is above
  // `safe_sequence`: the upstream must not have what a restart would not know of. What is due and not safe yet is put aside
  // for the next call, and what is put meanwhile goes behind it: else a key that is written all the time would never leave.
  void take(std::uint16_t node, std::int64_t now_us, std::uint64_t safe_sequence, std::vector<Flight>& flights);
  // The upstream has applied them.
  void flushed(const std::vector<Entry*>& entries, std::int64_t now_us);
  // It has not, or nobody knows: it goes again, unless a later one has come.
  void failed(Entry* entry, std::int64_t now_us);
  // It never will: somebody has written it down elsewhere.
  void gave_up(Entry* entry);
  // Every node may have other keys now.
  void regroup(const std::function<std::uint16_t(QueueKey)>& node_of);

  // Calls `then` once nothing of the key that was put before this waits or is in flight; false: nothing is, it is not
  // called.
  [[nodiscard]] bool await(QueueKey key, Callback then);
  // The same of all keys.
  [[nodiscard]] bool await_all(Callback then);
  // What was put before this leaves as soon as it may.
  void press();
  // Everything does, from now on.
  void hurry();

  // A direct write of what is logged needs a superseding record first, which `append` writes, unless there is one. The
  // sequence that must be safe before the write leaves, 0 if none is needed; nothing if it was refused.
  [[nodiscard]] std::optional<std::uint64_t> supersede(QueueKey key, const Append& append);
  // The same of every key that needs one; the last sequence.
  [[nodiscard]] std::optional<std::uint64_t> supersede_all(const Append& append);
  // All records up to this one are upstream, given the last one that the log has handed out before the call.
  [[nodiscard]] std::uint64_t checkpoint(std::uint64_t last_sequence) const;
  // ... and the log will not replay them.
  void checkpointed(std::uint64_t sequence);

  [[nodiscard]] QueueStats stats() const;

 private:
  // How many entries there are by a part of their key's hash.
  class KeyFilter {
   public:
    void add(std::size_t hash) noexcept { counts_[hash % kPlaces].fetch_add(1); }
    void remove(std::size_t hash) noexcept { counts_[hash % kPlaces].fetch_sub(1); }
    [[nodiscard]] bool may_have(std::size_t hash) const noexcept { return counts_[hash % kPlaces].load() != 0; }

   private:
    static constexpr std::size_t kPlaces = 1u << 16;

    std::array<std::atomic<std::uint32_t>, kPlaces> counts_{};
  };
  struct State;  // what the mutex guards

  [[nodiscard]] static std::size_t hash_of(std::string_view key) noexcept { return std::hash<std::string_view>()(key); }

  std::function<void(std::uint16_t)> urgent_;
  KeyFilter known_;      // all entries
  KeyFilter unflushed_;  // those that wait or are in flight
  mutable std::mutex mutex_;
  const std::unique_ptr<State> state_;
};

}  // namespace nearcached::tiers::write_behind
