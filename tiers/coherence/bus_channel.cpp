#include "tiers/coherence/bus_channel.hpp"

#include <array>
#include <cstddef>
#include <memory>

#include "protocol/key_slot.hpp"

namespace nearcached::tiers::coherence {
namespace {

constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyz";
constexpr std::size_t kTagMax = 4;  // 1.7 million texts, a hundred per slot

struct Tag {
  std::array<char, kTagMax> text{};
  std::uint8_t length = 0;  // 0: not found yet
  [[nodiscard]] std::string_view view() const { return {text.data(), length}; }
};
using Tags = std::array<Tag, protocol::kSlotCount>;

// Tries the texts of one length in order; returns how many slots are still without a tag.
std::size_t find_tags(Tags& tags, std::uint8_t length, std::size_t missing) {
  std::size_t texts = 1;
  for (std::size_t i = 0; i < length; ++i) texts *= kDigits.size();
  for (std::size_t number = 0; number < texts && missing != 0; ++number) {
    Tag tag{{}, length};
    std::size_t rest = number;
    for (std::size_t at = length; at-- > 0; rest /= kDigits.size()) tag.text[at] = kDigits[rest % kDigits.size()];
    Tag& place = tags[protocol::key_slot(tag.view())];
    if (place.length != 0) continue;
    place = tag;
    --missing;
  }
  return missing;
}

std::unique_ptr<const Tags> find_all_tags() {
  auto tags = std::make_unique<Tags>();
  std::size_t missing = tags->size();
  for (std::uint8_t length = 1; length <= kTagMax; ++length) missing = find_tags(*tags, length, missing);
  return tags;
}

}  // namespace

std::string_view slot_tag(std::uint16_t slot) {
  static const std::unique_ptr<const Tags> tags = find_all_tags();
  return (*tags)[slot].view();
}

std::string sharded_channel(std::string_view name, std::uint16_t slot) {
  std::string channel(name);
  channel += ":{";
  channel += slot_tag(slot);
  channel += '}';
  return channel;
}

}  // namespace nearcached::tiers::coherence
