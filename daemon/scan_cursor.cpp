#include "daemon/scan_cursor.hpp"

#include <algorithm>
#include <charconv>
#include <numeric>
#include <vector>

namespace nearcached::daemon {
namespace {

using tiers::upstream::Topology;

constexpr std::uint64_t kNodeMask = (std::uint64_t{1} << ScanCursor::kNodeBits) - 1;
constexpr std::uint64_t kMarkMask = (std::uint64_t{1} << ScanCursor::kMarkBits) - 1;

bool parse_number(std::string_view text, std::uint64_t& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// Indices into primaries, by address.
std::vector<std::size_t> by_address(const Topology& topology) {
  std::vector<std::size_t> order(topology.primaries.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::size_t a, std::size_t b) { return topology.primaries[a] < topology.primaries[b]; });
  return order;
}

// FNV-1a: the same in every process.
std::uint64_t mark_of(const Topology& topology, const std::vector<std::size_t>& order) {
  constexpr std::uint64_t kBasis = 0xcbf29ce484222325u;
  constexpr std::uint64_t kPrime = 0x100000001b3u;
  std::uint64_t hash = kBasis;
  for (const std::size_t index : order) {
    for (const char c : topology.primaries[index].text() + '\n') hash = (hash ^ static_cast<unsigned char>(c)) * kPrime;
  }
  return (hash >> 32 ^ hash) & kMarkMask;
}

}  // namespace

std::optional<ScanCursor> ScanCursor::parse(std::string_view text, const Topology& topology, std::string_view& error) {
  std::uint64_t number = 0;
  if (!parse_number(text, number)) {
    error = "ERR invalid cursor";
    return std::nullopt;
  }
  const std::vector<std::size_t> order = by_address(topology);
  if (number == 0) return ScanCursor{order.front(), 0};
  const std::uint64_t place = number & kNodeMask;
  const std::uint64_t mark = number >> kNodeBits & kMarkMask;
  if (mark != mark_of(topology, order) || place >= order.size()) {
    error = "ERR nearcached: the cluster's primaries are not those that this cursor was made for: SCAN again from 0";
    return std::nullopt;
  }
  return ScanCursor{order[place], number >> (kNodeBits + kMarkBits)};
}

std::string ScanCursor::make(std::size_t primary, std::string_view node_cursor, const Topology& topology) {
  const std::vector<std::size_t> order = by_address(topology);
  std::uint64_t number = 0;
  if (!parse_number(node_cursor, number) || number >> kNodeCursorBits != 0) return {};
  auto place = static_cast<std::uint64_t>(std::find(order.begin(), order.end(), primary) - order.begin());
  if (number == 0 && ++place == order.size()) return "0";
  return std::to_string(number << (kNodeBits + kMarkBits) | mark_of(topology, order) << kNodeBits | place);
}

}  // namespace nearcached::daemon
