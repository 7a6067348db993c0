#include "tiers/write_behind/queue_state.hpp"

#include <cassert>

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::int64_t kBurstUs = 10'000;
constexpr std::size_t kSparesMax = 8192;
constexpr std::size_t kSpareKeyBytesMax = 256;

}  // namespace

WriteQueue::State::Node& WriteQueue::State::node(std::uint16_t index) {
  while (nodes.size() <= index) {
    nodes.push_back(std::make_unique<Node>());
    nodes.back()->window = options.batch_records;
  }
  return *nodes[index];
}

WriteQueue::Entry& WriteQueue::State::make(QueueKey key) {
  if (entries.size() >= buckets.size()) {
    std::vector<queue::EntrySet::bucket_type> more(buckets.size() * 2);
    entries.rehash({more.data(), more.size()});
    buckets.swap(more);
  }
  std::unique_ptr<Entry> entry;
  if (spares.empty()) {
    entry = std::make_unique<Entry>();
  } else {
    entry = std::move(spares.back());
    spares.pop_back();
  }
  entry->hash = hash_of(key.key);
  entry->database = key.database;
  entry->key.assign(key.key);
  known.add(entry->hash);
  entries.insert(*entry);
  return *entry.release();
}

void WriteQueue::State::erase(Entry& entry) {
  known.remove(entry.hash);
  entries.erase(entries.iterator_to(entry));
  std::unique_ptr<Entry> spare(&entry);
  if (spares.size() >= kSparesMax || entry.key.capacity() > kSpareKeyBytesMax) return;
  entry.first_sequence = entry.newest_sequence = 0;
  entry.superseded = false;
  spares.push_back(std::move(spare));
}

bool WriteQueue::State::full(std::size_t more_bytes, bool new_record, std::int64_t now_us) const {
  if (new_record && stats.records >= options.records_max) return true;
  if (stats.bytes + more_bytes > options.bytes_max) return true;
  return !pending.empty() && now_us - pending.front().since_us > options.max_age_us;
}

void WriteQueue::State::insert(NewWrite write, Entry* entry, std::uint64_t sequence, std::int64_t now_us) {
  if (entry == nullptr) entry = &make(write.key);
  const bool joins = !entry->waits && !entry->flying;
  if (joins) {
    entry->node = write.node;
    entry->priority = write.priority;
  }
  accept(*entry, std::move(write.write), sequence, now_us);
  if (entry->waits) ++stats.coalesced;
  if (joins) enqueue(*entry, false);
}

void WriteQueue::State::accept(Entry& entry, WritePtr write, std::uint64_t sequence, std::int64_t now_us) {
  if (!entry.dirty()) {
    if (entry.hook.is_linked()) logged.erase(logged.iterator_to(entry));
    begin(entry.oldest(), sequence, now_us);
    unflushed.add(entry.hash);
    ++stats.records;
  } else {
    stats.bytes -= entry.bytes();
    if (entry.flying && entry.later().sequence == 0) {
      begin(entry.later(), sequence, now_us);
      ++stats.behind;
    } else if (entry.flying) {
      ++stats.coalesced;
    }
  }
  if (entry.first_sequence == 0) entry.first_sequence = sequence;
  entry.newest = std::move(write);
  entry.newest_sequence = sequence;
  entry.superseded = false;
  last_sequence = std::max(last_sequence, sequence);
  stats.bytes += entry.bytes();
  ++stats.accepted;
  notice(node(entry.node), now_us);
}

void WriteQueue::State::begin(OpenRecord& record, std::uint64_t sequence, std::int64_t now_us) {
  assert(pending.empty() || pending.back().sequence < sequence);
  record.sequence = sequence;
  record.since_us = now_us;
  pending.push_back(record);
}

void WriteQueue::State::end(OpenRecord& record) {
  pending.erase(pending.iterator_to(record));
  record.sequence = 0;
}

void WriteQueue::State::enqueue(Entry& entry, bool first) {
  Node& to = node(entry.node);
  queue::EntryList& list = to.waiting[static_cast<std::size_t>(entry.priority)];
  list.insert(first ? list.begin() : list.end(), entry);
  entry.waits = true;
  if (entry.wanted) ++to.wanted;
}

void WriteQueue::State::dequeue(Entry& entry) {
  Node& from = node(entry.node);
  queue::EntryList& list = from.waiting[static_cast<std::size_t>(entry.priority)];
  list.erase(list.iterator_to(entry));
  entry.waits = false;
  if (entry.wanted) --from.wanted;
}

// Somebody writes much, now, and is likely to write the same again.
void WriteQueue::State::notice(Node& node, std::int64_t now_us) const {
  if (now_us - node.burst_since_us >= kBurstUs) {
    node.burst = node.came > options.batch_records && now_us - node.burst_since_us < 2 * kBurstUs;
    node.burst_since_us = now_us;
    node.came = 0;
  }
  ++node.came;
}

// Ahead of all that nobody waits for.
void WriteQueue::State::want(Entry& entry) {
  if (entry.wanted) return;
  const bool waits = entry.waits;
  if (waits) dequeue(entry);
  entry.wanted = true;
  entry.priority = Priority::kHigh;
  if (waits) enqueue(entry, false);
}

// Who came after this waits on; nothing: all wait.
std::optional<std::int64_t> WriteQueue::State::leave_until(Node& node, std::int64_t now_us) const {
  if (now_us < node.rests_until_us || node.in_flight >= node.window) return std::nullopt;
  if (hurrying || node.wanted != 0 || !waiters_for_all.empty()) return queue::kNever;
  if (!pending.empty() && oldest_sequence() <= pressed_up_to) return queue::kNever;
  const std::int64_t due_us = now_us - options.batch_interval_us;
  const bool burst = node.burst && now_us - node.burst_since_us < 2 * kBurstUs;
  if (!burst && node.size() >= options.batch_records) return queue::kNever;
  if (due_us < node.oldest_us()) return std::nullopt;
  return burst ? due_us : queue::kNever;
}

void WriteQueue::State::board(std::uint16_t index, Node& from, std::int64_t until_us) {
  for (queue::EntryList& list : from.waiting) {
    while (!list.empty() && from.in_flight < from.window && list.front().oldest().since_us <= until_us) {
      Entry& entry = list.front();
      dequeue(entry);
      entry.flying = entry.newest;
      entry.flying_sequence = entry.newest_sequence;
      entry.flying_node = index;
      ++from.in_flight;
      ++stats.in_flight;
      from.aside.push_back(&entry);
    }
  }
}

// The flight is over, whatever its outcome.
void WriteQueue::State::land(Entry& entry) {
  assert(entry.flying);
  stats.bytes -= entry.bytes();
  entry.flying.reset();
  stats.bytes += entry.bytes();
  --node(entry.flying_node).in_flight;
  --stats.in_flight;
}

// What came during the flight has replaced it.
void WriteQueue::State::wait_again(Entry& entry) {
  land(entry);
  if (entry.later().sequence != 0) {
    end(entry.later());
    ++stats.coalesced;
    --stats.behind;
  }
  enqueue(entry, true);
}

// All up to the flight's sequence needs no flush any more.
void WriteQueue::State::settle(Entry& entry, Due& due) {
  end(entry.oldest());
  if (entry.later().sequence != 0) {
    entry.oldest_at = 1 - entry.oldest_at;
    --stats.behind;
    enqueue(entry, false);
  } else {
    stats.bytes -= entry.bytes();
    --stats.records;
    entry.newest.reset();
    unflushed.remove(entry.hash);
    logged.push_back(entry);
  }
  collect(entry, due);
}

void WriteQueue::State::collect(Entry& entry, Due& due) {
  if (!entry.waiters.empty()) {
    std::erase_if(entry.waiters, [&](auto& waiter) {
      if (entry.dirty() && entry.oldest().sequence <= waiter.first) return false;
      due.push_back(std::move(waiter.second));
      return true;
    });
  }
  if (entry.waiters.empty() && !entry.waits) entry.wanted = false;
  if (waiters_for_all.empty()) return;
  std::erase_if(waiters_for_all, [&](auto& waiter) {
    if (!pending.empty() && oldest_sequence() <= waiter.first) return false;
    due.push_back(std::move(waiter.second));
    return true;
  });
}

std::optional<std::uint64_t> WriteQueue::State::supersede(Entry& entry, const Append& append) {
  const std::uint64_t sequence = append({entry.database, entry.key});
  if (sequence == 0) return std::nullopt;
  logged.erase(logged.iterator_to(entry));
  entry.newest_sequence = sequence;
  entry.superseded = true;
  logged.push_back(entry);
  return sequence;
}

}  // namespace nearcached::tiers::write_behind
