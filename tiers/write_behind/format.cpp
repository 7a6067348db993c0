#include "tiers/write_behind/format.hpp"

#include <algorithm>

#include "tiers/write_behind/checksum.hpp"
#include "tiers/write_behind/little_endian.hpp"

namespace nearcached::tiers::write_behind {
namespace {

constexpr std::string_view kSegmentMagic = "NCWALSEG";
constexpr std::string_view kGroupMagic = "NCWG";
constexpr std::size_t kSegmentSummed = kSegmentHeaderBytes - 4;  // its checksum is its end
constexpr std::size_t kGroupSummedFrom = 8;                      // its checksum is behind the magic
constexpr std::string_view kSuffix = ".wal";
constexpr std::string_view kHexDigits = "0123456789abcdef";
constexpr std::size_t kNameDigits = 16;
constexpr std::uint64_t kSequenceMax = std::uint64_t{1} << 62;  // sums of sequences don't wrap; nobody gets there

std::string_view summed_part(std::string_view group_header) noexcept {
  return group_header.substr(kGroupSummedFrom, kGroupHeaderBytes - kGroupSummedFrom);
}

}  // namespace

std::array<char, kSegmentHeaderBytes> encode(const SegmentHeader& header) noexcept {
  std::array<char, kSegmentHeaderBytes> bytes{};
  std::copy(kSegmentMagic.begin(), kSegmentMagic.end(), bytes.begin());
  store_number(bytes.data() + 8, header.number);
  store_number(bytes.data() + 16, header.log_id);
  store_number(bytes.data() + 24, header.marks.durable);
  store_number(bytes.data() + 32, header.marks.checkpoint);
  store_number(bytes.data() + 40, header.version);
  store_number(bytes.data() + kSegmentSummed, checksum({bytes.data(), kSegmentSummed}));
  return bytes;
}

std::optional<SegmentHeader> decode_segment_header(std::string_view bytes) noexcept {
  if (bytes.size() < kSegmentHeaderBytes || !bytes.starts_with(kSegmentMagic)) return std::nullopt;
  const char* const from = bytes.data();
  if (load_number<std::uint32_t>(from + kSegmentSummed) != checksum(bytes.substr(0, kSegmentSummed))) return std::nullopt;
  SegmentHeader header;
  header.number = load_number<std::uint64_t>(from + 8);
  header.log_id = load_number<std::uint64_t>(from + 16);
  header.marks.durable = load_number<std::uint64_t>(from + 24);
  header.marks.checkpoint = load_number<std::uint64_t>(from + 32);
  header.version = load_number<std::uint32_t>(from + 40);
  if (header.marks.durable > kSequenceMax || header.marks.checkpoint > header.marks.durable) return std::nullopt;
  return header;
}

std::array<char, kGroupHeaderBytes> encode(const GroupHeader& header) noexcept {
  std::array<char, kGroupHeaderBytes> bytes{};
  std::copy(kGroupMagic.begin(), kGroupMagic.end(), bytes.begin());
  store_number(bytes.data() + 8, header.bytes);
  store_number(bytes.data() + 12, header.records);
  store_number(bytes.data() + 16, header.log_id);
  store_number(bytes.data() + 24, header.first);
  store_number(bytes.data() + 32, header.marks.durable);
  store_number(bytes.data() + 40, header.marks.checkpoint);
  store_number(bytes.data() + 48, static_cast<std::uint64_t>(header.written_at_ms));
  store_number(bytes.data() + 4, checksum(summed_part({bytes.data(), bytes.size()})));
  return bytes;
}

std::optional<GroupHeader> decode_group_header(std::string_view bytes) noexcept {
  if (bytes.size() < kGroupHeaderBytes || !bytes.starts_with(kGroupMagic)) return std::nullopt;
  const char* const from = bytes.data();
  if (load_number<std::uint32_t>(from + 4) != checksum(summed_part(bytes))) return std::nullopt;
  GroupHeader header;
  header.bytes = load_number<std::uint32_t>(from + 8);
  header.records = load_number<std::uint32_t>(from + 12);
  header.log_id = load_number<std::uint64_t>(from + 16);
  header.first = load_number<std::uint64_t>(from + 24);
  header.marks.durable = load_number<std::uint64_t>(from + 32);
  header.marks.checkpoint = load_number<std::uint64_t>(from + 40);
  header.written_at_ms = static_cast<std::int64_t>(load_number<std::uint64_t>(from + 48));
  if (header.first == 0 || header.first > kSequenceMax) return std::nullopt;
  if (header.marks.durable > kSequenceMax || header.marks.checkpoint > header.marks.durable) return std::nullopt;
  return header;
}

std::string segment_name(std::uint64_t number) {
  std::string name(kNameDigits, '0');
  for (std::size_t i = kNameDigits; i-- > 0; number /= 16) name[i] = kHexDigits[number % 16];
  return name.append(kSuffix);
}

std::optional<std::uint64_t> segment_number(std::string_view name) noexcept {
  if (name.size() != kNameDigits + kSuffix.size() || !name.ends_with(kSuffix)) return std::nullopt;
  std::uint64_t number = 0;
  for (const char digit : name.substr(0, kNameDigits)) {
    const std::size_t value = kHexDigits.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    number = number * 16 + value;
  }
  return number;
}

}  // namespace nearcached::tiers::write_behind
