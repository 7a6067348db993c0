#include "tiers/write_behind/write_queue.hpp"

#include <algorithm>
#include <bit>
#include <utility>

#include "tiers/write_behind/queue_state.hpp"

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::int64_t kRestUs = 50'000;  // after the first failure, as much more after each further one
constexpr std::int64_t kRestMaxUs = 2'000'000;

void call(const queue::Due& due) {
  for (const WriteQueue::Callback& callback : due) callback();
}

}  // namespace

WriteQueue::WriteQueue(const QueueOptions& options) : state_(std::make_unique<State>(options, known_, unflushed_)) {}

WriteQueue::~WriteQueue() = default;

WriteQueue::PutResult WriteQueue::put(NewWrite write, std::int64_t now_us, const Append& append) {
  const std::size_t hash = hash_of(write.key.key);
  WritePtr replaced;  // given back without the lock
  const std::lock_guard lock(mutex_);
  Entry* const entry = state_->find({write.key, hash});
  const bool new_record = entry == nullptr || !entry->dirty();
  if (write.follows && *write.follows != (new_record ? 0 : entry->newest_sequence)) return {Put::kChanged};
  if (state_->full((new_record ? write.key.key.size() : 0) + write.write->value.size(), new_record, now_us)) {
    ++state_->stats.full;
    state_->pressed_up_to = state_->last_sequence;
    return {Put::kFull};
  }
  const std::uint64_t sequence = append(write.key);
  if (sequence == 0) return {Put::kRefused};
  if (entry != nullptr) replaced = entry->newest;
  state_->insert(std::move(write), entry, sequence, now_us);
  return {Put::kAccepted, sequence, entry != nullptr};
}

void WriteQueue::restore(QueueKey key, WritePtr write, std::uint64_t sequence, std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  state_->insert({key, 0, Priority::kNormal, std::move(write)}, state_->find(key), sequence, now_us);
}

std::optional<WriteQueue::Pending> WriteQueue::find(QueueKey key) const {
  if (!may_be_dirty(key.key)) return std::nullopt;
  const std::lock_guard lock(mutex_);
  const Entry* const entry = state_->find_dirty(key);
  if (entry == nullptr) return std::nullopt;
  return Pending{entry->newest, entry->newest_sequence, entry->first_sequence != entry->newest_sequence};
}

void WriteQueue::take(std::uint16_t index, std::int64_t now_us, std::uint64_t safe_sequence, std::vector<Flight>& flights) {
  const std::lock_guard lock(mutex_);
  State::Node& from = state_->node(index);
  const auto until_us = from.size() == 0 ? std::nullopt : state_->leave_until(from, now_us);
  if (until_us) state_->board(index, from, *until_us);
  std::erase_if(from.aside, [&](Entry* entry) {
    if (entry->flying_sequence > safe_sequence) return false;
    flights.push_back({entry, entry->database, entry->key, entry->flying, entry->flying_sequence});
    return true;
  });
  if (flights.empty()) return;
  SizeHistogram& batches = state_->stats.batches;
  ++batches[std::min<std::size_t>(std::bit_width(flights.size()), batches.size() - 1)];
  state_->stats.sent += flights.size();
}

void WriteQueue::flushed(const std::vector<Entry*>& entries, std::int64_t now_us) {
  State::Due due;
  {
    const std::lock_guard lock(mutex_);
    for (Entry* const entry : entries) {
      state_->land(*entry);
      State::Node& from = state_->node(entry->flying_node);
      from.failures = 0;
      from.rests_until_us = std::min(from.rests_until_us, now_us);
      from.window = std::min(state_->options.in_flight_max, from.window + 1);
      ++state_->stats.flushed;
      state_->settle(*entry, due);
    }
  }
  call(due);
}

void WriteQueue::failed(Entry* entry, std::int64_t now_us) {
  const std::lock_guard lock(mutex_);
  State::Node& from = state_->node(entry->flying_node);
  // Those that left together fail together: it rests once.
  if (now_us >= from.rests_until_us) {
    from.rests_until_us = now_us + std::min(kRestMaxUs, kRestUs * ++from.failures);
    from.window = state_->options.batch_records;
  }
  ++state_->stats.retries;
  state_->wait_again(*entry);
}

void WriteQueue::gave_up(Entry* entry) {
  State::Due due;
  {
    const std::lock_guard lock(mutex_);
    state_->land(*entry);
    ++state_->stats.dead;
    state_->settle(*entry, due);
  }
  call(due);
}

void WriteQueue::regroup(const std::function<std::uint16_t(QueueKey)>& node_of) {
  const std::lock_guard lock(mutex_);
  for (const auto& node : state_->nodes) {
    std::for_each(node->aside.rbegin(), node->aside.rend(), [this](Entry* entry) { state_->wait_again(*entry); });
    node->aside.clear();
  }
  for (Entry& entry : state_->entries) {
    const std::uint16_t to = node_of({entry.database, entry.key});
    if (to == entry.node) continue;
    const bool waits = entry.waits;
    if (waits) state_->dequeue(entry);
    entry.node = to;
    if (waits) state_->enqueue(entry, false);
  }
}

bool WriteQueue::await(QueueKey key, Callback then) {
  if (!may_be_dirty(key.key)) return false;
  std::optional<std::uint16_t> urgent;
  {
    const std::lock_guard lock(mutex_);
    Entry* const entry = state_->find_dirty(key);
    if (entry == nullptr) return false;
    entry->waiters.emplace_back(entry->newest_sequence, std::move(then));
    state_->want(*entry);
    if (entry->waits) urgent = entry->node;
  }
  if (urgent && urgent_) urgent_(*urgent);
  return true;
}

bool WriteQueue::await_all(Callback then) {
  std::size_t nodes = 0;
  {
    const std::lock_guard lock(mutex_);
    if (state_->pending.empty()) return false;
    state_->waiters_for_all.emplace_back(state_->last_sequence, std::move(then));
    nodes = urgent_ ? state_->nodes.size() : 0;
  }
  for (std::size_t i = 0; i < nodes; ++i) urgent_(static_cast<std::uint16_t>(i));
  return true;
}

void WriteQueue::press() {
  const std::lock_guard lock(mutex_);
  state_->pressed_up_to = state_->last_sequence;
}

void WriteQueue::hurry() {
  const std::lock_guard lock(mutex_);
  state_->hurrying = true;
}

std::optional<std::uint64_t> WriteQueue::supersede(QueueKey key, const Append& append) {
  if (!known_.may_have(hash_of(key.key))) return 0;
  const std::lock_guard lock(mutex_);
  Entry* const entry = state_->find(key);
  if (entry == nullptr || entry->dirty()) return 0;
  return entry->superseded ? entry->newest_sequence : state_->supersede(*entry, append);
}

std::optional<std::uint64_t> WriteQueue::supersede_all(const Append& append) {
  const std::lock_guard lock(mutex_);
  std::vector<Entry*> entries;
  std::uint64_t last = 0;
  for (Entry& entry : state_->logged) {
    if (entry.superseded) {
      last = std::max(last, entry.newest_sequence);
    } else {
      entries.push_back(&entry);
    }
  }
  for (Entry* const entry : entries) {
    const auto sequence = state_->supersede(*entry, append);
    if (!sequence) return std::nullopt;
    last = *sequence;
  }
  return last;
}

std::uint64_t WriteQueue::checkpoint(std::uint64_t last_sequence) const {
  const std::lock_guard lock(mutex_);
  return state_->pending.empty() ? last_sequence : std::min(last_sequence, state_->oldest_sequence() - 1);
}

void WriteQueue::checkpointed(std::uint64_t sequence) {
  const std::lock_guard lock(mutex_);
  queue::EntryList& logged = state_->logged;
  // One that is above may keep others a little longer: that costs a superseding record at most.
  while (!logged.empty() && logged.front().newest_sequence <= sequence) {
    Entry& entry = logged.front();
    logged.pop_front();
    state_->erase(entry);
  }
}

QueueStats WriteQueue::stats() const {
  const std::lock_guard lock(mutex_);
  QueueStats stats = state_->stats;
  stats.oldest_us = state_->pending.empty() ? 0 : state_->pending.front().since_us;
  return stats;
}

}  // namespace nearcached::tiers::write_behind
