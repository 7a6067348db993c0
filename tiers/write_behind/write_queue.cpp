#include "tiers/write_behind/write_queue.hpp"

#include <algorithm>
#include <bit>
#include <cassert>
#include <limits>

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::int64_t kRestUs = 50'000;  // after the first failure, as much more after each further one
constexpr std::int64_t kRestMaxUs = 2'000'000;
constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::max();

std::size_t bytes_of(const WritePtr& write) { return write ? write->value.size() : 0; }

void call(const std::vector<WriteQueue::Callback>& due) {
  for (const WriteQueue::Callback& callback : due) callback();
}

}  // namespace

struct WriteQueue::Entry {
  const Id* id = nullptr;
  WritePtr newest;  // none: it is logged
  WritePtr flying;  // none: it is not in flight
  std::uint64_t newest_sequence = 0;
  std::uint64_t flying_sequence = 0;
  std::uint64_t oldest_sequence = 0;  // that is not upstream; 0: all are
  std::uint64_t later_sequence = 0;   // the first that came during the flight; 0: none did
  std::int64_t since_us = 0;          // when the oldest came
  std::int64_t later_us = 0;
  std::list<Entry*>::iterator place;  // while it waits
  std::uint16_t node = 0;             // where it waits, or will
  std::uint16_t flying_node = 0;      // where it left
  Priority priority = Priority::kNormal;
  bool waits = false;
  bool wanted = false;
  bool superseded = false;  // the last record of the key is a superseding one
  std::vector<std::pair<std::uint64_t, Callback>> waiters;

  [[nodiscard]] std::size_t bytes() const {
    return id->key.size() + bytes_of(newest) + (flying != newest ? bytes_of(flying) : 0);
  }
};

std::size_t WriteQueue::Node::size() const {
  std::size_t sum = 0;
  for (const auto& list : waiting) sum += list.size();
  return sum;
}

std::int64_t WriteQueue::Node::oldest_us() const {
  std::int64_t oldest = kNever;
  for (const auto& list : waiting) {
    if (!list.empty()) oldest = std::min(oldest, list.front()->since_us);
  }
  return oldest;
}

WriteQueue::WriteQueue(const QueueOptions& options) : options_(options) {}

WriteQueue::~WriteQueue() = default;

std::size_t WriteQueue::KeyFilter::place(std::string_view key) noexcept {
  return std::hash<std::string_view>()(key) % kPlaces;
}

WriteQueue::Node& WriteQueue::node(std::uint16_t index) {
  while (nodes_.size() <= index) {
    nodes_.push_back(std::make_unique<Node>());
    nodes_.back()->window = options_.batch_records;
  }
  return *nodes_[index];
}

WriteQueue::Entry* WriteQueue::entry_of(QueueKey key) const {
  const auto found = entries_.find(key);
  return found == entries_.end() ? nullptr : found->second.get();
}

WriteQueue::Entry& WriteQueue::make_entry(QueueKey key) {
  const auto [at, made] = entries_.try_emplace(Id{key.database, std::string(key.key)}, std::make_unique<Entry>());
  assert(made);
  at->second->id = &at->first;
  known_.add(key.key);
  return *at->second;
}

void WriteQueue::erase(Entry& entry) {
  known_.remove(entry.id->key);
  entries_.erase(entries_.find(QueueKey{entry.id->database, entry.id->key}));
}

bool WriteQueue::full(std::size_t more_bytes, bool new_record, std::int64_t now_us) const {
  if (new_record && stats_.records >= options_.records_max) return true;
  if (stats_.bytes + more_bytes > options_.bytes_max) return true;
  return !dirty_.empty() && now_us - dirty_.begin()->second->since_us > options_.max_age_us;
}

WriteQueue::PutResult WriteQueue::put(NewWrite write, std::int64_t now_us, const Append& append) {
  const std::lock_guard lock(mutex_);
  const Entry* const entry = entry_of(write.key);
  const bool new_record = entry == nullptr || entry->oldest_sequence == 0;
  if (write.follows && *write.follows != (new_record ? 0 : entry->newest_sequence)) return {Put::kChanged, 0};
  if (full((new_record ? write.key.key.size() : 0) + write.write->value.size(), new_record, now_us)) {
    ++stats_.full;
    press_locked();
    return {Put::kFull, 0};
  }
  const std::uint64_t sequence = append(write.key);
  if (sequence == 0) return {Put::kRefused, 0};
  insert(std::move(write), sequence, now_us);
  return {Put::kAccepted, sequence};
}

void WriteQueue::restore(QueueKey key, WritePtr write, std::uint64_t sequence, std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  insert({key, 0, Priority::kNormal, std::move(write)}, sequence, now_us);
}

void WriteQueue::insert(NewWrite write, std::uint64_t sequence, std::int64_t now_us) {
  Entry* entry = entry_of(write.key);
  if (entry == nullptr) entry = &make_entry(write.key);
  accept(*entry, std::move(write.write), sequence, now_us);
  if (entry->waits) {
    ++stats_.coalesced;
  } else if (!entry->flying) {
    entry->node = write.node;
    entry->priority = write.priority;
    enqueue(*entry, false);
  }
}

void WriteQueue::accept(Entry& entry, WritePtr write, std::uint64_t sequence, std::int64_t now_us) {
  if (entry.oldest_sequence == 0) {
    if (entry.newest_sequence != 0) logged_.erase({entry.newest_sequence, &entry});
    entry.oldest_sequence = sequence;
    entry.since_us = now_us;
    dirty_.emplace(sequence, &entry);
    unflushed_.add(entry.id->key);
    ++stats_.records;
  } else {
    stats_.bytes -= entry.bytes();
    if (entry.flying && entry.later_sequence == 0) {
      entry.later_sequence = sequence;
      entry.later_us = now_us;
      ++stats_.behind;
    } else if (entry.flying) {
      ++stats_.coalesced;
    }
  }
  entry.newest = std::move(write);
  entry.newest_sequence = sequence;
  entry.superseded = false;
  last_sequence_ = std::max(last_sequence_, sequence);
  stats_.bytes += entry.bytes();
  ++stats_.accepted;
}

void WriteQueue::enqueue(Entry& entry, bool first) {
  Node& to = node(entry.node);
  std::list<Entry*>& list = to.waiting[static_cast<std::size_t>(entry.priority)];
  entry.place = list.insert(first ? list.begin() : list.end(), &entry);
  entry.waits = true;
  if (entry.wanted) ++to.wanted;
}

void WriteQueue::dequeue(Entry& entry) {
  Node& from = node(entry.node);
  from.waiting[static_cast<std::size_t>(entry.priority)].erase(entry.place);
  entry.waits = false;
  if (entry.wanted) --from.wanted;
}

// Ahead of all that nobody waits for.
void WriteQueue::want(Entry& entry) {
  if (entry.wanted) return;
  const bool waits = entry.waits;
  if (waits) dequeue(entry);
  entry.wanted = true;
  entry.priority = Priority::kHigh;
  if (waits) enqueue(entry, false);
}

std::optional<WriteQueue::Pending> WriteQueue::find(QueueKey key) const {
  if (!may_be_dirty(key.key)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const Entry* const entry = entry_of(key);
  if (entry == nullptr || entry->oldest_sequence == 0) return std::nullopt;
  return Pending{entry->newest, entry->newest_sequence};
}

bool WriteQueue::leaves(const Node& node, std::int64_t now_us) const {
  if (now_us < node.rests_until_us || node.in_flight >= node.window) return false;
  if (hurrying_ || node.wanted != 0 || !waiters_for_all_.empty()) return true;
  if (!dirty_.empty() && dirty_.begin()->first <= pressed_up_to_) return true;
  return node.size() >= options_.batch_records || now_us - options_.batch_interval_us >= node.oldest_us();
}

void WriteQueue::take(std::uint16_t index, std::int64_t now_us, std::uint64_t safe_sequence, std::vector<Flight>& flights) {
  const std::lock_guard lock(mutex_);
  Node& from = node(index);
  if (from.size() != 0 && leaves(from, now_us)) board(index, from);
  std::erase_if(from.aside, [&](Entry* entry) {
    if (entry->flying_sequence > safe_sequence) return false;
    flights.push_back({entry, entry->id->database, entry->id->key, entry->flying, entry->flying_sequence});
    return true;
  });
  if (flights.empty()) return;
  ++stats_.batches[std::min<std::size_t>(std::bit_width(flights.size()), stats_.batches.size() - 1)];
  stats_.sent += flights.size();
}

void WriteQueue::board(std::uint16_t index, Node& from) {
  for (std::list<Entry*>& list : from.waiting) {
    while (!list.empty() && from.in_flight < from.window) {
      Entry& entry = *list.front();
      dequeue(entry);
      entry.flying = entry.newest;
      entry.flying_sequence = entry.newest_sequence;
      entry.flying_node = index;
      ++from.in_flight;
      ++stats_.in_flight;
      from.aside.push_back(&entry);
    }
  }
}

// The flight is over, whatever its outcome.
void WriteQueue::land(Entry& entry) {
  assert(entry.flying);
  stats_.bytes -= entry.bytes();
  entry.flying.reset();
  stats_.bytes += entry.bytes();
  --node(entry.flying_node).in_flight;
  --stats_.in_flight;
}

// All up to the flight's sequence needs no flush any more.
void WriteQueue::settle(Entry& entry, Due& due) {
  dirty_.erase({entry.oldest_sequence, &entry});
  if (entry.later_sequence != 0) {
    entry.oldest_sequence = std::exchange(entry.later_sequence, 0);
    --stats_.behind;
    entry.since_us = entry.later_us;
    dirty_.emplace(entry.oldest_sequence, &entry);
    enqueue(entry, false);
  } else {
    stats_.bytes -= entry.bytes();
    --stats_.records;
    entry.oldest_sequence = 0;
    entry.newest.reset();
    unflushed_.remove(entry.id->key);
    logged_.emplace(entry.newest_sequence, &entry);
  }
  collect(entry, due);
}

void WriteQueue::collect(Entry& entry, Due& due) {
  std::erase_if(entry.waiters, [&](auto& waiter) {
    if (entry.oldest_sequence != 0 && entry.oldest_sequence <= waiter.first) return false;
    due.push_back(std::move(waiter.second));
    return true;
  });
  if (entry.waiters.empty() && !entry.waits) entry.wanted = false;
  std::erase_if(waiters_for_all_, [&](auto& waiter) {
    if (!dirty_.empty() && dirty_.begin()->first <= waiter.first) return false;
    due.push_back(std::move(waiter.second));
    return true;
  });
}

void WriteQueue::flushed(Entry* entry, std::int64_t now_us) {
  Due due;
  {
    const std::lock_guard lock(mutex_);
    land(*entry);
    Node& from = node(entry->flying_node);
    from.failures = 0;
    from.rests_until_us = std::min(from.rests_until_us, now_us);
    from.window = std::min(options_.in_flight_max, from.window + 1);
    ++stats_.flushed;
    settle(*entry, due);
  }
  call(due);
}

// What came during the flight has replaced it.
void WriteQueue::wait_again(Entry& entry) {
  land(entry);
  if (entry.later_sequence != 0) {
    ++stats_.coalesced;
    --stats_.behind;
  }
  entry.later_sequence = 0;
  enqueue(entry, true);
}

void WriteQueue::failed(Entry* entry, std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  Node& from = node(entry->flying_node);
  // Those that left together fail together: it rests once.
  if (now_us >= from.rests_until_us) {
    from.rests_until_us = now_us + std::min(kRestMaxUs, kRestUs * ++from.failures);
    from.window = options_.batch_records;
  }
  ++stats_.retries;
  wait_again(*entry);
}

void WriteQueue::gave_up(Entry* entry) {
  Due due;
  {
    const std::lock_guard lock(mutex_);
    land(*entry);
    ++stats_.dead;
    settle(*entry, due);
  }
  call(due);
}

void WriteQueue::regroup(const std::function<std::uint16_t(QueueKey)>& node_of) {
  const std::lock_guard lock(mutex_);
  for (const auto& node : nodes_) {
    std::for_each(node->aside.rbegin(), node->aside.rend(), [this](Entry* entry) { wait_again(*entry); });
    node->aside.clear();
  }
  for (const auto& [id, entry] : entries_) {
    const std::uint16_t to = node_of({id.database, id.key});
    if (to == entry->node) continue;
    const bool waits = entry->waits;
    if (waits) dequeue(*entry);
    entry->node = to;
    if (waits) enqueue(*entry, false);
  }
}

bool WriteQueue::await(QueueKey key, Callback then) {
  if (!may_be_dirty(key.key)) return false;
  std::optional<std::uint16_t> urgent;
  {
    const std::lock_guard lock(mutex_);
    Entry* const entry = entry_of(key);
    if (entry == nullptr || entry->oldest_sequence == 0) return false;
    entry->waiters.emplace_back(entry->newest_sequence, std::move(then));
    want(*entry);
    if (entry->waits) urgent = entry->node;
  }
  if (urgent && urgent_) urgent_(*urgent);
  return true;
}

bool WriteQueue::await_all(Callback then) {
  std::size_t nodes = 0;
  {
    const std::lock_guard lock(mutex_);
    if (dirty_.empty()) return false;
    waiters_for_all_.emplace_back(last_sequence_, std::move(then));
    nodes = urgent_ ? nodes_.size() : 0;
  }
  for (std::size_t i = 0; i < nodes; ++i) urgent_(static_cast<std::uint16_t>(i));
  return true;
}

void WriteQueue::press_locked() { pressed_up_to_ = last_sequence_; }

void WriteQueue::press() {
  const std::lock_guard lock(mutex_);
  press_locked();
}

void WriteQueue::hurry() {
  const std::lock_guard lock(mutex_);
  hurrying_ = true;
}

std::optional<std::uint64_t> WriteQueue::supersede(Entry& entry, const Append& append) {
  const std::uint64_t sequence = append({entry.id->database, entry.id->key});
  if (sequence == 0) return std::nullopt;
  logged_.erase({entry.newest_sequence, &entry});
  entry.newest_sequence = sequence;
  entry.superseded = true;
  logged_.emplace(sequence, &entry);
  return sequence;
}

std::optional<std::uint64_t> WriteQueue::supersede(QueueKey key, const Append& append) {
  if (!known_.may_have(key.key)) return 0;
  const std::lock_guard lock(mutex_);
  Entry* const entry = entry_of(key);
  if (entry == nullptr || entry->oldest_sequence != 0) return 0;
  return entry->superseded ? entry->newest_sequence : supersede(*entry, append);
}

std::optional<std::uint64_t> WriteQueue::supersede_all(const Append& append) {
  const std::lock_guard lock(mutex_);
  std::vector<Entry*> entries;
  std::optional<std::uint64_t> last = 0;
  for (const auto& [sequence, entry] : logged_) {
    if (entry->superseded) {
      last = sequence;
    } else {
      entries.push_back(entry);
    }
  }
  for (auto entry = entries.begin(); entry != entries.end() && last; ++entry) last = supersede(**entry, append);
  return last;
}

std::uint64_t WriteQueue::checkpoint(std::uint64_t last_sequence) const {
  const std::lock_guard lock(mutex_);
  return dirty_.empty() ? last_sequence : std::min(last_sequence, dirty_.begin()->first - 1);
}

void WriteQueue::checkpointed(std::uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  while (!logged_.empty() && logged_.begin()->first <= sequence) {
    Entry& entry = *logged_.begin()->second;
    logged_.erase(logged_.begin());
    erase(entry);
  }
}

QueueStats WriteQueue::stats() const {
  const std::lock_guard lock(mutex_);
  QueueStats stats = stats_;
  stats.oldest_us = dirty_.empty() ? 0 : dirty_.begin()->second->since_us;
  return stats;
}

}  // namespace nearcached::tiers::write_behind
