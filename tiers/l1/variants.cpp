#include "tiers/l1/variants.hpp"

#include <xxhash.h>

#include <algorithm>
#include <cstring>

namespace nearcached::tiers::l1 {
namespace {

// As it lies in a table, unaligned.
struct Record {
  std::uint32_t hash;
  std::uint32_t name_length;
  std::uint32_t reply_length;
};
static_assert(sizeof(Record) == 12);

using Count = std::uint16_t;

// Not seeded: who makes hashes collide is compared with at most kVariantsMax names.
std::uint32_t hash_name(std::string_view name) noexcept {
  return static_cast<std::uint32_t>(XXH3_64bits(name.data(), name.size()));
}

template <typename T>
T read_from(const char* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

template <typename T>
char* append(char* out, const T& value) noexcept {
  std::memcpy(out, &value, sizeof value);
  return out + sizeof value;
}

char* append(char* out, const Variant& variant) noexcept {
  return std::copy(variant.reply.begin(), variant.reply.end(), std::copy(variant.name.begin(), variant.name.end(), out));
}

Record record_of(const Variant& variant) noexcept {
  return {hash_name(variant.name), static_cast<std::uint32_t>(variant.name.size()),
          static_cast<std::uint32_t>(variant.reply.size())};
}

}  // namespace

std::optional<std::string_view> find_variant(std::string_view table, std::string_view name) noexcept {
  const std::uint32_t hash = hash_name(name);
  const std::size_t count = read_from<Count>(table.data());
  const char* const records = table.data() + sizeof(Count);
  const char* bytes = records + count * sizeof(Record);
  for (std::size_t i = 0; i < count; ++i) {
    const auto record = read_from<Record>(records + i * sizeof(Record));
    if (record.hash == hash && name == std::string_view(bytes, record.name_length))
      return std::string_view(bytes + record.name_length, record.reply_length);
    bytes += std::size_t{record.name_length} + record.reply_length;
  }
  return std::nullopt;
}

VariantCursor VariantCursor::of_reply(std::string_view reply) noexcept {
  VariantCursor cursor;
  cursor.left_ = 1;
  cursor.bytes_ = reply.data();
  cursor.plain_length_ = reply.size();
  return cursor;
}

VariantCursor VariantCursor::of_table(std::string_view table) noexcept {
  VariantCursor cursor;
  cursor.left_ = read_from<Count>(table.data());
  cursor.record_ = table.data() + sizeof(Count);
  cursor.bytes_ = cursor.record_ + cursor.left_ * sizeof(Record);
  return cursor;
}

Variant VariantCursor::next() noexcept {
  --left_;
  if (record_ == nullptr) return {{}, {bytes_, plain_length_}};
  const auto record = read_from<Record>(record_);
  const Variant variant{{bytes_, record.name_length}, {bytes_ + record.name_length, record.reply_length}};
  record_ += sizeof record;
  bytes_ += variant.name.size() + variant.reply.size();
  return variant;
}

void VariantPayload::keep(VariantCursor older, std::size_t content_max) noexcept {
  for (VariantCursor all = older; all.left() != 0;) {
    const Variant variant = all.next();
    if (variant.name == fresh_.name) continue;
    ++count_;
    content_ += variant.name.size() + variant.reply.size();
  }
  while (count_ > 1 && (count_ > kVariantsMax || content_ > content_max)) {
    const Variant oldest = older.next();
    if (oldest.name == fresh_.name) continue;
    --count_;
    content_ -= oldest.name.size() + oldest.reply.size();
  }
  if (count_ > 1) older_ = older;
}

std::size_t VariantPayload::table_bytes() const noexcept { return sizeof(Count) + count_ * sizeof(Record) + content_; }

void VariantPayload::write(char* out) const noexcept {
  if (plain()) {
    std::copy(fresh_.reply.begin(), fresh_.reply.end(), out);
    return;
  }
  char* record = append(out, static_cast<Count>(count_));
  char* bytes = record + count_ * sizeof(Record);
  const auto put = [&](const Variant& variant) {
    record = append(record, record_of(variant));
    bytes = append(bytes, variant);
  };
  for (std::optional<VariantCursor> kept = older_; kept && kept->left() != 0;) {
    const Variant variant = kept->next();
    if (variant.name != fresh_.name) put(variant);
  }
  put(fresh_);
}

}  // namespace nearcached::tiers::l1
