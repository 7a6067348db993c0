// What a WriteQueue's mutex guards.
#pragma once

#include <algorithm>
#include <array>
#include <boost/intrusive/list.hpp>
#include <boost/intrusive/unordered_set.hpp>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::tiers::write_behind {
namespace queue {

namespace intrusive = boost::intrusive;

inline constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

using Append = WriteQueue::Append;
using Callback = WriteQueue::Callback;
using Due = std::vector<Callback>;  // to be called without the lock
using Entry = WriteQueue::Entry;

struct Named {
  QueueKey name;
  std::size_t hash = 0;
};

// A record that is not upstream.
struct OpenRecord : intrusive::list_base_hook<> {
  std::uint64_t sequence = 0;  // 0: there is none
  std::int64_t since_us = 0;
};

}  // namespace queue

struct WriteQueue::Entry {
  queue::intrusive::unordered_set_member_hook<queue::intrusive::store_hash<true>> by_key;
  std::size_t hash = 0;
  std::uint32_t database = 0;
  std::string key;
  WritePtr newest;                   // none: it is logged
  WritePtr flying;                   // none: it is not in flight
  std::uint64_t first_sequence = 0;  // of the records that the log may have of it
  std::uint64_t newest_sequence = 0;
  std::uint64_t flying_sequence = 0;
  std::array<queue::OpenRecord, 2> records;   // the oldest that is not upstream, and the first that came during the flight
  std::uint8_t oldest_at = 0;                 // of records
  queue::intrusive::list_member_hook<> hook;  // in a node's list while it waits, among the logged ones while it is that
  std::uint16_t node = 0;                     // where it waits, or will
  std::uint16_t flying_node = 0;              // where it left
  Priority priority = Priority::kNormal;
  bool waits = false;
  bool wanted = false;
  bool superseded = false;  // the last record of the key is a superseding one
  std::vector<std::pair<std::uint64_t, Callback>> waiters;

  [[nodiscard]] queue::OpenRecord& oldest() { return records[oldest_at]; }
  [[nodiscard]] const queue::OpenRecord& oldest() const { return records[oldest_at]; }
  [[nodiscard]] queue::OpenRecord& later() { return records[1 - oldest_at]; }
  [[nodiscard]] bool dirty() const { return oldest().sequence != 0; }
  [[nodiscard]] static std::size_t size_of(const WritePtr& write) { return write ? write->value.size() : 0; }
  [[nodiscard]] std::size_t bytes() const { return key.size() + size_of(newest) + (flying != newest ? size_of(flying) : 0); }
};

namespace queue {

using EntryList = intrusive::list<Entry, intrusive::member_hook<Entry, intrusive::list_member_hook<>, &Entry::hook>>;

struct Hash {
  [[nodiscard]] std::size_t operator()(const Entry& entry) const noexcept { return mix(entry.hash, entry.database); }
  [[nodiscard]] std::size_t operator()(const Named& named) const noexcept { return mix(named.hash, named.name.database); }
  [[nodiscard]] static std::size_t mix(std::size_t hash, std::uint32_t database) noexcept {
    return hash ^ (database * 0x9E3779B97F4A7C15u);
  }
};

struct Equal {
  [[nodiscard]] bool operator()(const Entry& a, const Entry& b) const noexcept {
    return a.database == b.database && a.key == b.key;
  }
  [[nodiscard]] bool operator()(const Named& a, const Entry& b) const noexcept {
    return a.hash == b.hash && a.name.database == b.database && a.name.key == b.key;
  }
};

using EntrySet = intrusive::unordered_set<Entry, intrusive::member_hook<Entry, decltype(Entry::by_key), &Entry::by_key>,
                                          intrusive::hash<Hash>, intrusive::equal<Equal>, intrusive::power_2_buckets<true>>;

struct Node {
  std::array<EntryList, kPriorities> waiting;
  std::vector<Entry*> aside;  // in flight, but not safe yet
  std::size_t in_flight = 0;
  std::size_t window = 0;      // in flight at most, at the moment
  std::size_t wanted = 0;      // of what waits: somebody waits for it
  std::uint32_t failures = 0;  // since the last success
  std::int64_t rests_until_us = 0;
  std::int64_t burst_since_us = 0;  // when this part of a burst, or what may become one, began
  std::size_t came = 0;             // since then
  bool burst = false;

  [[nodiscard]] std::size_t size() const {
    std::size_t sum = 0;
    for (const EntryList& list : waiting) sum += list.size();
    return sum;
  }
  // Since when the one that has waited longest does; of an empty one the end of time.
  [[nodiscard]] std::int64_t oldest_us() const {
    std::int64_t oldest = kNever;
    for (const EntryList& list : waiting) {
      if (!list.empty()) oldest = std::min(oldest, list.front().oldest().since_us);
    }
    return oldest;
  }
};

}  // namespace queue

// All functions with the mutex held.
struct WriteQueue::State {
  using Named = queue::Named;
  using Node = queue::Node;
  using OpenRecord = queue::OpenRecord;
  using Due = queue::Due;
  static constexpr std::size_t kBucketsMin = 1u << 12;  // a power of two

  State(const QueueOptions& given, KeyFilter& all, KeyFilter& dirty)
      : options(given), known(all), unflushed(dirty), buckets(kBucketsMin), entries({buckets.data(), buckets.size()}) {}
  ~State() {
    pending.clear();
    logged.clear();
    for (const auto& node : nodes) {
      for (queue::EntryList& list : node->waiting) list.clear();
    }
    entries.clear_and_dispose(std::default_delete<Entry>());
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  [[nodiscard]] Entry* find(QueueKey key) { return find({key, hash_of(key.key)}); }
  [[nodiscard]] Entry* find(const Named& named) {
    const auto found = entries.find(named, queue::Hash(), queue::Equal());
    return found == entries.end() ? nullptr : &*found;
  }
  [[nodiscard]] Entry* find_dirty(QueueKey key) {
    Entry* const entry = find(key);
    return entry != nullptr && entry->dirty() ? entry : nullptr;
  }
  [[nodiscard]] Entry& make(QueueKey key);
  void erase(Entry& entry);
  [[nodiscard]] bool full(std::size_t more_bytes, bool new_record, std::int64_t now_us) const;
  void insert(NewWrite write, Entry* entry, std::uint64_t sequence, std::int64_t now_us);
  void accept(Entry& entry, WritePtr write, std::uint64_t sequence, std::int64_t now_us);
  void begin(OpenRecord& record, std::uint64_t sequence, std::int64_t now_us);
  void end(OpenRecord& record);
  void enqueue(Entry& entry, bool first);
  void dequeue(Entry& entry);
  void notice(Node& node, std::int64_t now_us) const;
  void want(Entry& entry);
  [[nodiscard]] std::optional<std::int64_t> leave_until(Node& node, std::int64_t now_us) const;
  void board(std::uint16_t index, Node& from, std::int64_t until_us);
  void land(Entry& entry);
  void wait_again(Entry& entry);
  void settle(Entry& entry, Due& due);
  void collect(Entry& entry, Due& due);
  [[nodiscard]] std::optional<std::uint64_t> supersede(Entry& entry, const Append& append);
  [[nodiscard]] std::uint64_t oldest_sequence() const { return pending.empty() ? 0 : pending.front().sequence; }
  [[nodiscard]] Node& node(std::uint16_t index);

  const QueueOptions options;
  KeyFilter& known;
  KeyFilter& unflushed;
  std::vector<queue::EntrySet::bucket_type> buckets;
  queue::EntrySet entries;
  std::vector<std::unique_ptr<Entry>> spares;  // one is made and erased for nearly every write
  std::vector<std::unique_ptr<Node>> nodes;
  queue::intrusive::list<OpenRecord> pending;  // by sequence: they come in that order
  queue::EntryList logged;                     // as they became so
  std::vector<std::pair<std::uint64_t, Callback>> waiters_for_all;
  std::uint64_t last_sequence = 0;  // that was put
  std::uint64_t pressed_up_to = 0;  // a sequence
  bool hurrying = false;
  QueueStats stats;
};

}  // namespace nearcached::tiers::write_behind
