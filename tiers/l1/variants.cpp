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

// Of a record's reply length. An item is at most 1 GiB.
constexpr std::uint32_t kPackedBit = 1u << 31;

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
  const std::string_view reply = variant.reply.bytes;
  return std::copy(reply.begin(), reply.end(), std::copy(variant.name.begin(), variant.name.end(), out));
}

Record record_of(const Variant& variant) noexcept {
  return {hash_name(variant.name), static_cast<std::uint32_t>(variant.name.size()),
          static_cast<std::uint32_t>(variant.reply.bytes.size()) | (variant.reply.packed ? kPackedBit : 0)};
}

std::uint32_t length_of(const Record& record) noexcept { return record.reply_length & ~kPackedBit; }

StoredReply reply_of(const Record& record, const char* at) noexcept {
  return {std::string_view(at, length_of(record)), (record.reply_length & kPackedBit) != 0};
}

}  // namespace

std::optional<StoredReply> find_variant(std::string_view table, std::string_view name) noexcept {
  const std::uint32_t hash = hash_name(name);
  const std::size_t count = read_from<Count>(table.data());
  const char* const records = table.data() + sizeof(Count);
  const char* bytes = records + count * sizeof(Record);
  for (std::size_t i = 0; i < count; ++i) {
    const auto record = read_from<Record>(records + i * sizeof(Record));
    if (record.hash == hash && name == std::string_view(bytes, record.name_length))
      return reply_of(record, bytes + record.name_length);
    bytes += std::size_t{record.name_length} + length_of(record);
  }
  return std::nullopt;
}

VariantCursor VariantCursor::of_reply(StoredReply reply) noexcept {
  VariantCursor cursor;
  cursor.left_ = 1;
  cursor.only_ = reply;
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
  if (record_ == nullptr) return {{}, only_};
  const auto record = read_from<Record>(record_);
  const Variant variant{{bytes_, record.name_length}, reply_of(record, bytes_ + record.name_length)};
  record_ += sizeof record;
  bytes_ += variant.stored_bytes();
  return variant;
}

void VariantPayload::keep(VariantCursor older, std::size_t content_max) noexcept {
  for (VariantCursor all = older; all.left() != 0;) {
    const Variant variant = all.next();
    if (variant.name == fresh_.name) continue;
    ++count_;
    plain_content_ += variant.plain_bytes();
    content_ += variant.stored_bytes();
  }
  while (count_ > 1 && (count_ > kVariantsMax || plain_content_ > content_max)) {
    const Variant oldest = older.next();
    if (oldest.name == fresh_.name) continue;
    --count_;
    plain_content_ -= oldest.plain_bytes();
    content_ -= oldest.stored_bytes();
  }
  if (count_ > 1) older_ = older;
}

std::size_t VariantPayload::table_bytes() const noexcept { return sizeof(Count) + count_ * sizeof(Record) + content_; }

void VariantPayload::write(char* out) const noexcept {
  if (plain()) {
    std::copy(fresh_.reply.bytes.begin(), fresh_.reply.bytes.end(), out);
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
