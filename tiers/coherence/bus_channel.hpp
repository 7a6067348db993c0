// The name of the channel on which a node's messages go.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace nearcached::tiers::coherence {

// On one server the configured name is the channel. In a cluster every node has one of its own, "<name>:{tag}", whose tag
// hashes to the lowest slot that the node owns: sharded Pub/Sub lets a channel live only where its slot does. `name` may
// hold no braces, which would hide the tag; `slot` is less than protocol::kSlotCount. Any thread.
[[nodiscard]] std::string sharded_channel(std::string_view name, std::uint16_t slot);

[[nodiscard]] inline bool is_channel_name(std::string_view name) {
  return !name.empty() && name.find_first_of("{}") == std::string_view::npos;
}

// The shortest text of digits and lower-case letters that hashes to the slot, the first of them in order: at most 4 bytes.
// All are found at the first call (some 5 ms) and kept (80 KB).
[[nodiscard]] std::string_view slot_tag(std::uint16_t slot);

}  // namespace nearcached::tiers::coherence
