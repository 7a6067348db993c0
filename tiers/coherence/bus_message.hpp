// What sidecars tell each other over the bus: the messages and their bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::tiers::coherence {

enum class BusKind : std::uint8_t {
  kInvalidate = 1,  // these keys were written
  kPrefix = 2,      // all keys that begin with the text
  kTag = 3,         // all keys that carry the tag
  kNamespace = 4,   // all keys of the namespace; of the empty text: all keys there are
  kHeartbeat = 5,   // nothing was published beyond last_sequence; the first message of every stream, with 0
  kBye = 6,         // the stream ends after last_sequence, nothing of it is unpublished
  kLost = 7,        // another stream of this publisher broke: lost_epoch, published for certain up to last_sequence
};

// One message. A *stream* is (publisher, epoch): what one process publishes over one connection between an announcement and
// a kBye. What it publishes is numbered from 1, so that a message which is missing shows. Heartbeats and kBye carry no
// number of their own but the last one given out.
//
// Bytes, little-endian (docs/bus_protocol.md has an example):
//
//     version 1 | kind 1 | publisher 8 | epoch 4 | sequence 8 | body | checksum 4
//     body of kInvalidate: count 4, then length 4 and bytes of each key;  of kPrefix, kTag, kNamespace: length 4, bytes
//     body of kLost: lost_epoch 4, last_sequence 8;                       of kHeartbeat, kBye: none
//
// The checksum (FNV-1a, 32 bits) is there to tell damage and foreign publishers on our channel from messages; whoever may
// publish on the channel is trusted. Views point into the decoded payload.
struct BusMessage {
  BusKind kind = BusKind::kHeartbeat;
  std::uint64_t publisher = 0;
  std::uint32_t epoch = 0;             // from 1
  std::uint64_t sequence = 0;          // from 1; 0 in kHeartbeat and kBye
  std::vector<std::string_view> keys;  // kInvalidate: 1..kBusKeysMax
  std::string_view text;               // kPrefix, kTag, kNamespace
  std::uint64_t last_sequence = 0;     // kHeartbeat, kBye, kLost
  std::uint32_t lost_epoch = 0;        // kLost; 0: what was published on another channel
};

inline constexpr std::uint8_t kBusVersion = 1;
// Keys of one message. A write of more keys publishes several.
inline constexpr std::size_t kBusKeysMax = 1024;

enum class BusDecoded : std::uint8_t {
  kGood,
  kDamaged,       // not a message, or not a whole one
  kOtherVersion,  // of a newer or older nearcached
};

[[nodiscard]] std::string encode_bus_message(const BusMessage& message);
// `message` is overwritten and meaningless unless kGood; its `keys` keep their memory from call to call.
[[nodiscard]] BusDecoded decode_bus_message(std::string_view payload, BusMessage& message);

}  // namespace nearcached::tiers::coherence
