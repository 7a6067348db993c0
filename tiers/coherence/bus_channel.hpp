// The name of the channel on which a node's messages go.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/key_slot.hpp"

namespace nearcached::tiers::coherence {

// One server: the configured name. In a cluster every node has a channel of its own, "<name>:{tag}", whose tag hashes to the
// lowest slot that the node owns: sharded Pub/Sub lets a channel live only where its slot does, and with ordinary Pub/Sub it
// keeps the other nodes' messages, which the cluster bus brings late or not at all, away from this node's subscribers.
//
// The tag is found by search, some 16,000 trials (half a millisecond), when the slot has changed. Confined to one thread.
class BusChannel {
 public:
  // The name may hold no braces, which would hide the tag: see valid().
  explicit BusChannel(std::string name) : name_(std::move(name)) {}

  [[nodiscard]] static bool valid(std::string_view name) {
    return !name.empty() && name.find_first_of("{}") == std::string_view::npos;
  }

  [[nodiscard]] const std::string& of_server() const { return name_; }
  // The view is good until the next call.
  [[nodiscard]] const std::string& of_node(std::uint16_t lowest_slot);

 private:
  const std::string name_;
  std::uint16_t slot_ = protocol::kSlotCount;  // none yet
  std::string channel_;
};

// The shortest text of letters and digits that hashes to the slot, the same everywhere. At most 4 characters.
[[nodiscard]] std::string slot_tag(std::uint16_t slot);

}  // namespace nearcached::tiers::coherence
