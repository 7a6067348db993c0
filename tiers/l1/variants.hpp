// The replies of one key: which reads of it are kept, how they lie in memory, and what a new one leaves of the older.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace nearcached::tiers::l1 {

// More reads of one key are not kept: a lookup stays within a few cache lines, and a merge copies a bounded table.
inline constexpr std::size_t kVariantsMax = 64;

// One read of a key and its reply. The name is opaque, empty for plain GET.
struct Variant {
  std::string_view name;
  std::string_view reply;
};

// The reply of that name in a table written by VariantPayload. No allocation. A name is compared byte by byte only where 32
// bits of its hash and its length agree.
[[nodiscard]] std::optional<std::string_view> find_variant(std::string_view table, std::string_view name) noexcept;

// Walks what an entry holds, the oldest read first. Views are valid for as long as the entry is.
class VariantCursor {
 public:
  // A plain entry: one reply, of the empty name.
  [[nodiscard]] static VariantCursor of_reply(std::string_view reply) noexcept;
  [[nodiscard]] static VariantCursor of_table(std::string_view table) noexcept;

  [[nodiscard]] std::size_t left() const noexcept { return left_; }
  // left() must not be 0.
  Variant next() noexcept;

 private:
  VariantCursor() = default;

  std::size_t left_ = 0;
  const char* record_ = nullptr;  // null: a plain entry
  const char* bytes_ = nullptr;
  std::size_t plain_length_ = 0;
};

// What a new entry is to hold: the read just made, and behind keep() what stays of the older entry's.
//
//   plain:  reply
//   table:  count 2 [ hash 4 | name length 4 | reply length 4 ] x count [ name | reply ] x count, oldest first
//
// A plan and a writer in one, so that the size is known before there is memory and nothing is copied twice. All records lie
// before all bytes: a lookup reads 12 bytes per read of the key and then the one it wants. What goes for want of room are
// always the oldest, so what stays is the end of the older entry's, known by where it starts. What it is bad at: each new
// read copies those that stay. Threading: none, a local of the installing thread; what it views must outlive it.
class VariantPayload {
 public:
  explicit VariantPayload(const Variant& fresh) noexcept : fresh_(fresh), content_(fresh.name.size() + fresh.reply.size()) {}

  // Keeps what fits of an older entry, its reply of the same name excepted: kVariantsMax in all, names and replies together
  // within `content_max` bytes. Once.
  void keep(VariantCursor older, std::size_t content_max) noexcept;

  // Something of the older entry stays.
  [[nodiscard]] bool merged() const noexcept { return older_.has_value(); }
  // To be written as the bare reply.
  [[nodiscard]] bool plain() const noexcept { return count_ == 1 && fresh_.name.empty(); }
  // What write() writes.
  [[nodiscard]] std::size_t bytes() const noexcept { return plain() ? fresh_.reply.size() : table_bytes(); }
  void write(char* out) const noexcept;

 private:
  [[nodiscard]] std::size_t table_bytes() const noexcept;

  Variant fresh_;
  std::optional<VariantCursor> older_;  // stands at the first that may stay
  std::size_t count_ = 1;
  std::size_t content_;  // names and replies of all that is kept
};

}  // namespace nearcached::tiers::l1
