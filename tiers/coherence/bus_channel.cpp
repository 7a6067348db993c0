#include "tiers/coherence/bus_channel.hpp"

#include <cstddef>

namespace nearcached::tiers::coherence {

std::string slot_tag(std::uint16_t slot) {
  constexpr std::string_view kDigits = "0123456789abcdefghijklmnopqrstuvwxyz";
  constexpr std::size_t kLengthMax = 4;  // 1.7 million texts: every slot has one (the test tries all)
  std::size_t texts = 1;
  for (std::size_t length = 1; length <= kLengthMax; ++length) {
    texts *= kDigits.size();
    std::string text(length, kDigits.front());
    for (std::size_t number = 0; number < texts; ++number) {
      std::size_t rest = number;
      for (char& digit : text) {
        digit = kDigits[rest % kDigits.size()];
        rest /= kDigits.size();
      }
      if (protocol::key_slot(text) == slot) return text;
    }
  }
  return {};
}

const std::string& BusChannel::of_node(std::uint16_t lowest_slot) {
  if (lowest_slot != slot_) {
    channel_ = name_ + ":{" + slot_tag(lowest_slot) + "}";
    slot_ = lowest_slot;
  }
  return channel_;
}

}  // namespace nearcached::tiers::coherence
