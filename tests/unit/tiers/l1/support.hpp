// What the L1's tests share: a clock that stands still and the shortest way to put something in.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "tiers/l1/store.hpp"

namespace nearcached::tiers::l1::testing {

inline constexpr std::int64_t kNow = 1'000'000;
inline constexpr std::int64_t kLater = kNow + 300'000;

inline KeyRef key_ref(std::string_view key, std::uint32_t realm = 0) { return {hash_key(key), realm, key}; }

inline InstallResult put(Store& store, std::string_view key, std::string_view reply, std::uint32_t realm = 0,
                         std::int64_t expires = kLater, std::int64_t now = kNow) {
  return store.install(key_ref(key, realm), {}, reply, Stamp{}, expires, now, [] { return true; });
}

inline InstallResult put_variant(Store& store, std::string_view key, std::string_view variant, std::string_view reply,
                                 const Stamp& stamp = {}, std::int64_t expires = kLater, std::int64_t now = kNow) {
  return store.install(key_ref(key), variant, reply, stamp, expires, now, [] { return true; });
}

// A copy, empty if there is none.
inline std::string get(Store& store, std::string_view key, std::uint32_t realm = 0) {
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref(key, realm));
  if (entry == nullptr) return {};
  Store::touch(*entry);
  return std::string(entry->reply({}).value_or("no reply to GET").bytes);
}

// A copy, nothing if that read of the key is not kept.
inline std::optional<std::string> get_variant(Store& store, std::string_view key, std::string_view variant) {
  const Store::ReadGuard guard(store);
  const Entry* const entry = store.find(key_ref(key));
  if (entry == nullptr) return std::nullopt;
  const auto reply = entry->reply(variant);
  return reply ? std::optional<std::string>(reply->bytes) : std::nullopt;
}

inline bool alive(const Entry&) { return false; }

}  // namespace nearcached::tiers::l1::testing
