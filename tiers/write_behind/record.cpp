#include "tiers/write_behind/record.hpp"

#include <array>

#include "tiers/write_behind/checksum.hpp"
#include "tiers/write_behind/little_endian.hpp"

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::size_t kLengthAt = 4;
constexpr std::size_t kSequenceAt = 8;
constexpr std::size_t kExpiryAt = 16;
constexpr std::size_t kDatabaseAt = 24;
constexpr std::size_t kKeyLengthAt = 28;
constexpr std::size_t kKindAt = 32;

using Head = std::array<char, kRecordHeadBytes>;

// Without checksum and sequence.
Head make_head(const Record& record) noexcept {
  Head head{};
  store_number(head.data() + kLengthAt, static_cast<std::uint32_t>(record_bytes(record)));
  store_number(head.data() + kExpiryAt, static_cast<std::uint64_t>(record.expires_at_ms));
  store_number(head.data() + kDatabaseAt, record.database);
  store_number(head.data() + kKeyLengthAt, static_cast<std::uint32_t>(record.key.size()));
  head[kKindAt] = static_cast<char>(record.kind);
  return head;
}

std::uint32_t end_checksum(std::uint32_t begun, const char* head) noexcept {
  return checksum(begun, {head + kLengthAt, kExpiryAt - kLengthAt});
}

bool is_known(RecordKind kind) noexcept { return kind >= RecordKind::kSet && kind <= RecordKind::kSupersededAll; }

}  // namespace

std::size_t record_bytes(const Record& record) noexcept {
  return kRecordHeadBytes + record.key.size() + record.value.size();
}

std::uint32_t begin_checksum(const Record& record) noexcept {
  const Head head = make_head(record);
  const std::uint32_t of_head = checksum({head.data() + kExpiryAt, kRecordHeadBytes - kExpiryAt});
  return checksum(checksum(of_head, record.key), record.value);
}

std::optional<ParsedRecord> parse_record(std::string_view bytes) noexcept {
  if (bytes.size() < kRecordHeadBytes) return std::nullopt;
  const char* const head = bytes.data();
  const std::size_t length = load_number<std::uint32_t>(head + kLengthAt);
  const std::size_t key_length = load_number<std::uint32_t>(head + kKeyLengthAt);
  if (length < kRecordHeadBytes || length > bytes.size() || key_length > length - kRecordHeadBytes) return std::nullopt;
  const std::uint32_t begun = checksum(bytes.substr(kExpiryAt, length - kExpiryAt));
  if (end_checksum(begun, head) != load_number<std::uint32_t>(head)) return std::nullopt;

  ParsedRecord parsed;
  parsed.bytes = length;
  parsed.sequence = load_number<std::uint64_t>(head + kSequenceAt);
  parsed.record.kind = static_cast<RecordKind>(head[kKindAt]);
  parsed.record.database = load_number<std::uint32_t>(head + kDatabaseAt);
  parsed.record.expires_at_ms = static_cast<std::int64_t>(load_number<std::uint64_t>(head + kExpiryAt));
  parsed.record.key = bytes.substr(kRecordHeadBytes, key_length);
  parsed.record.value = bytes.substr(kRecordHeadBytes + key_length, length - kRecordHeadBytes - key_length);
  if (!is_known(parsed.record.kind)) return std::nullopt;
  return parsed;
}

std::uint64_t Group::append(const Record& record, std::uint32_t begun) {
  const std::uint64_t sequence = next();
  Head head = make_head(record);
  store_number(head.data() + kSequenceAt, sequence);
  store_number(head.data(), end_checksum(begun, head.data()));
  bytes.append(head.data(), head.size());
  bytes.append(record.key);
  bytes.append(record.value);
  ++records;
  return sequence;
}

void Group::clear() {
  first = next();
  records = 0;
  bytes.clear();
  if (bytes.capacity() > kKeptBytes) bytes.shrink_to_fit();
}

}  // namespace nearcached::tiers::write_behind
