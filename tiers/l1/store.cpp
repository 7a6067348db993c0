#include "tiers/l1/store.hpp"

#include <xxhash.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <new>

#include "tiers/l1/assertion.hpp"
#include "tiers/l1/epoch.hpp"
#include "tiers/l1/shard.hpp"

namespace nearcached::tiers::l1 {
namespace {

constexpr std::size_t kBudgetMin = 64 * 1024;
constexpr std::size_t kItemBytesMax = std::size_t{1} << 30;  // lengths are 32 bits
constexpr std::uint32_t kShardsMax = 1024;
constexpr std::size_t kTenth = 10;
constexpr std::size_t kShardBytesMin = 64 * 1024;
// A shard with fewer than so many items would notice the unevenness of hashes.
constexpr std::size_t kShardItemsMin = 64;
// Of maintain() and erase_if(): entries that one hold of a shard's mutex looks at or evicts.
constexpr std::size_t kEntriesPerHold = 64;

std::size_t item_limit(const Options& options) { return std::min(options.max_item_bytes, options.max_bytes / kTenth); }

std::size_t shards_for(const Options& options) {
  std::size_t most = options.max_bytes / std::max(kShardBytesMin, item_limit(options) * kTenth);
  if (options.max_items != 0) most = std::min(most, options.max_items / kShardItemsMin);
  return std::min<std::size_t>(options.shards, std::bit_floor(std::max<std::size_t>(most, 1)));
}

}  // namespace

std::string Options::validate() const {
  if (max_bytes < kBudgetMin) return "max_bytes must be at least 65536";
  if (max_item_bytes < 1 || max_item_bytes > kItemBytesMax) return "max_item_bytes must be within 1 and 1073741824";
  if (!(soft_limit >= 0.1 && soft_limit <= 1.0)) return "soft_limit must be within 0.1 and 1";
  if (!std::has_single_bit(shards) || shards > kShardsMax) return "shards must be a power of two within 1 and 1024";
  return {};
}

std::uint64_t hash_key(std::string_view key) {
  static const std::uint64_t seed = hash_seed();
  return XXH3_64bits_withSeed(key.data(), key.size(), seed);
}

std::size_t Entry::bytes_for(const KeyRef& key, const VariantPayload& payload) noexcept {
  const std::size_t wide = needs_wide(key) ? kWideBytes : 0;
  return std::max(sizeof(Entry), offsetof(Entry, tail_) + wide + key.key.size() + payload.bytes());
}

bool Entry::needs_wide(const KeyRef& key) noexcept { return key.realm != 0 || key.key.size() > UINT16_MAX; }

Entry* Entry::create(const KeyRef& key, const VariantPayload& payload, const Stamp& stamp,
                     std::int64_t expires_at_ms) noexcept {
  void* const block = std::malloc(bytes_for(key, payload));
  if (block == nullptr) return nullptr;
  auto* const entry = new (block) Entry;
  const auto expiry = static_cast<std::uint64_t>(expires_at_ms);
  const bool wide = needs_wide(key);
  entry->stamp_ = stamp;
  entry->payload_length_ = static_cast<std::uint32_t>(payload.bytes()) | (payload.packed() ? kPackedBit : 0);
  entry->expiry_low_ = static_cast<std::uint32_t>(expiry);
  entry->node_.owner = static_cast<std::uint8_t>((expiry >> 32 & kExpiryHighMask) | (wide ? kWideBit : 0) |
                                                 (payload.plain() && !payload.packed() ? 0 : kEncodedBit));
  char* out = static_cast<char*>(block) + offsetof(Entry, tail_);
  if (wide) {
    const std::uint32_t words[2] = {key.realm, static_cast<std::uint32_t>(key.key.size())};
    std::memcpy(out, words, sizeof words);
    out += sizeof words;
  } else {
    entry->key_length_ = static_cast<std::uint16_t>(key.key.size());
  }
  payload.write(std::copy(key.key.begin(), key.key.end(), out));
  return entry;
}

std::optional<StoredReply> Entry::encoded_reply(std::string_view variant) const noexcept {
  if (has_variants()) return find_variant(payload(), variant);
  if (is_encoded() && variant.empty()) return StoredReply(payload(), true);
  return std::nullopt;
}

void Entry::inherit(const Entry& older) noexcept {
  node_.prev = older.node_.prev;
  node_.next = older.node_.next;
  node_.rank = older.node_.rank;
  node_.queue = older.node_.queue;
  node_.frequency = older.node_.frequency;
  node_.uses.store(older.node_.uses.load(std::memory_order_relaxed), std::memory_order_relaxed);
}

void Entry::set_retired_next(const Entry* next) noexcept {
  const auto address = std::uint64_t{reinterpret_cast<std::uintptr_t>(next)};
  node_.prev = static_cast<std::uint32_t>(address >> 32);
  node_.next = static_cast<std::uint32_t>(address);
}

Entry* Entry::retired_next() const noexcept {
  return reinterpret_cast<Entry*>(static_cast<std::uintptr_t>(std::uint64_t{node_.prev} << 32 | node_.next));
}

Store::Store(const Options& options)
    : options_(options), shard_count_(shards_for(options)), item_bytes_max_(item_limit(options)) {
  require(options.validate().empty(), "valid L1 options");
  shards_ = std::make_unique<Shard[]>(shard_count_);
  ShardLimits limits;
  limits.bytes = (options.max_bytes - sizeof(Store)) / shard_count_;
  const auto soft = static_cast<std::size_t>(static_cast<double>(options.max_bytes) * options.soft_limit);
  limits.soft_bytes = (soft - sizeof(Store)) / shard_count_;
  limits.item_bytes = item_bytes_max_;
  for (std::size_t i = 0; i < shard_count_; ++i) {
    // The remainder goes to the first shards, so that all parts together are max_items.
    if (options.max_items != 0)
      limits.items = options.max_items / shard_count_ + (i < options.max_items % shard_count_ ? 1 : 0);
    shards_[i].open(limits);
  }
}

Store::~Store() = default;

Store::ReadGuard::ReadGuard(Store&) noexcept { Epoch::enter(); }
Store::ReadGuard::~ReadGuard() { Epoch::leave(); }

Shard& Store::shard_of(std::uint64_t hash) const noexcept { return shards_[hash & (shard_count_ - 1)]; }

const Entry* Store::find(const KeyRef& key) const noexcept { return shard_of(key.hash).find(key); }

void Store::prefetch(std::uint64_t hash) const noexcept { shard_of(hash).prefetch(hash); }

const Entry* Store::prefetch_entry(std::uint64_t hash) const noexcept { return shard_of(hash).prefetch_entry(hash); }

InstallResult Store::install(const KeyRef& key, std::string_view variant, const StoredReply& reply, const Stamp& stamp,
                             std::int64_t expires_at_ms, std::int64_t now_ms, const std::function<bool()>& still_current) {
  // A table that grows hashes the keys anew; an entry filed under another hash could not be erased any more.
  require(key.hash == hash_key(key.key), "KeyRef::hash is hash_key(key)");
  Shard& shard = shard_of(key.hash);
  if (key.key.size() + variant.size() + reply.plain_size() > item_bytes_max_) {
    shard.refuse_too_large(key);
    return InstallResult::kTooLarge;
  }
  return shard.install(key, {variant, reply}, stamp, expires_at_ms, now_ms, still_current);
}

std::size_t Store::erase(std::uint64_t hash, Removal reason) {
  return shard_of(hash).erase(hash, std::nullopt, std::nullopt, reason);
}

std::size_t Store::erase(std::uint64_t hash, std::string_view key, Removal reason) {
  return shard_of(hash).erase(hash, key, std::nullopt, reason);
}

bool Store::erase(const KeyRef& key, Removal reason) {
  return shard_of(key.hash).erase(key.hash, key.key, key.realm, reason) != 0;
}

std::size_t Store::erase_if(const std::function<bool(const Entry&)>& doomed) {
  const std::lock_guard walk(walk_mutex_);
  for (std::size_t i = 0; i < shard_count_; ++i) shards_[i].begin_walk();
  std::size_t removed = 0;
  // All shards in turn, not one after the other: a mutex that is taken again at once starves those who wait for it.
  for (bool done = false; !done;) {
    done = true;
    for (std::size_t i = 0; i < shard_count_; ++i) {
      const Sweep sweep = shards_[i].walk(kEntriesPerHold, doomed);
      removed += sweep.removed;
      done = done && sweep.wrapped;
    }
  }
  return removed;
}

std::size_t Store::maintain(std::int64_t now_ms, std::size_t entries_max, const std::function<bool(const Entry&)>& dead) {
  std::size_t removed = 0;
  std::size_t left = entries_max;
  // Each shard's end is passed at most once, so that a small store is not swept round and round.
  for (std::size_t ends = 0; left > 0 && ends < shard_count_;) {
    const Sweep sweep = shards_[maintain_shard_].sweep(now_ms, std::min(left, kEntriesPerHold), dead);
    left -= sweep.looked;
    removed += sweep.removed;
    if (!sweep.wrapped) continue;
    maintain_shard_ = (maintain_shard_ + 1) & (shard_count_ - 1);
    ++ends;
  }
  std::size_t evictions_left = entries_max;
  for (std::size_t i = 0; i < shard_count_; ++i) {
    std::size_t evicted = 0;
    do {
      evicted = shards_[i].trim(now_ms, std::min(evictions_left, kEntriesPerHold));
      evictions_left -= evicted;
      removed += evicted;
    } while (evicted == kEntriesPerHold);
  }
  return removed;
}

Stats Store::stats() const {
  Stats stats;
  stats.bytes = sizeof(Store);
  for (std::size_t i = 0; i < shard_count_; ++i) shards_[i].add_to(stats);
  return stats;
}

}  // namespace nearcached::tiers::l1
