// The replies of one key: which reads of it are kept, how they lie in memory, and what a new one leaves of the older.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "tiers/l1/stored_reply.hpp"

namespace nearcached::tiers::l1 {

// More reads of one key are not kept: a lookup stays within a few cache lines, and a merge copies a bounded table.
inline constexpr std::size_t kVariantsMax = 64;

// One read of a key and its reply. The name is opaque, empty for plain GET.
struct Variant {
  std::string_view name;
  StoredReply reply;

  // What counts against the limit of one item: packed or not, it is the plain reply's size.
  [[nodiscard]] std::size_t plain_bytes() const noexcept { return name.size() + reply.plain_size(); }
  [[nodiscard]] std::size_t stored_bytes() const noexcept { return name.size() + reply.bytes.size(); }
};

// The reply of that name in a table written by VariantPayload. No allocation. A name is compared byte by byte only where 32
// bits of its hash and its length agree.
[[nodiscard]] std::optional<StoredReply> find_variant(std::string_view table, std::string_view name) noexcept;

// Walks what an entry holds, the oldest read first. Views are valid for as long as the entry is.
class VariantCursor {
 public:
  // A plain entry: one reply, of the empty name.
  [[nodiscard]] static VariantCursor of_reply(StoredReply reply) noexcept;
  [[nodiscard]] static VariantCursor of_table(std::string_view table) noexcept;

  [[nodiscard]] std::size_t left() const noexcept { return left_; }
  // left() must not be 0.
  Variant next() noexcept;

 private:
  VariantCursor() = default;

  std::size_t left_ = 0;
  const char* record_ = nullptr;  // null: a plain entry
  const char* bytes_ = nullptr;
  StoredReply only_;  // of a plain entry
};

// What a new entry is to hold: the read just made, and behind keep() what stays of the older entry's.
//
//   plain:  reply, which may be packed
//   table:  count 2 [ hash 4 | name length 4 | reply length 4 ] x count [ name | reply ] x count, oldest first
//           the upper bit of a reply length: it is packed
//
// A plan and a writer in one, so that the size is known before there is memory and nothing is copied twice. All records lie
// before all bytes: a lookup reads 12 bytes per read of the key and then the one it wants. What goes for want of room are
// always the oldest, so what stays is the end of the older entry's, known by where it starts. A packed reply is copied as it
// is: each is packed by itself, so that a merge, which holds the shard's mutex, packs and unpacks nothing. What it is bad
// at: each new read copies those that stay. Threading: none, a local of the installing thread; what it views must outlive
// it.
class VariantPayload {
 public:
  explicit VariantPayload(const Variant& fresh) noexcept
      : fresh_(fresh), plain_content_(fresh.plain_bytes()), content_(fresh.stored_bytes()) {}

  // Keeps what fits of an older entry, its reply of the same name excepted: kVariantsMax in all, names and plain replies
  // together within `content_max` bytes. Once.
  void keep(VariantCursor older, std::size_t content_max) noexcept;

  // Something of the older entry stays.
  [[nodiscard]] bool merged() const noexcept { return older_.has_value(); }
  // To be written as the bare reply.
  [[nodiscard]] bool plain() const noexcept { return count_ == 1 && fresh_.name.empty(); }
  // That reply is packed.
  [[nodiscard]] bool packed() const noexcept { return plain() && fresh_.reply.packed; }
  // What write() writes.
  [[nodiscard]] std::size_t bytes() const noexcept { return plain() ? fresh_.reply.bytes.size() : table_bytes(); }
  void write(char* out) const noexcept;

 private:
  [[nodiscard]] std::size_t table_bytes() const noexcept;

  Variant fresh_;
  std::optional<VariantCursor> older_;  // stands at the first that may stay
  std::size_t count_ = 1;
  std::size_t plain_content_;  // names and plain replies of all that is kept
  std::size_t content_;        // as they are written
};

}  // namespace nearcached::tiers::l1
