// Redis Cluster's key slots: CRC16 (XMODEM) modulo 16384, with hash tags.
// Source: https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
#pragma once

#include <cstdint>
#include <string_view>

namespace nearcached::protocol {

inline constexpr std::uint16_t kSlotCount = 16384;

// 0..kSlotCount-1. If the key holds "{...}" with something between the first '{' and the first '}' behind it, only that
// something is hashed.
[[nodiscard]] std::uint16_t key_slot(std::string_view key);

}  // namespace nearcached::protocol
