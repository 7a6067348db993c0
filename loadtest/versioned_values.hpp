// Values that say of which key and which version they are, and the frames that carry them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

namespace nearcached::loadtest {

struct VersionedValue {
  std::uint32_t key = 0;
  std::uint64_t version = 0;
  friend bool operator==(const VersionedValue&, const VersionedValue&) = default;
};

// "delay:17". A reply or a push then needs no memory of what was asked: it says itself what it is about.
[[nodiscard]] std::string key_name(std::uint32_t key);
[[nodiscard]] std::optional<std::uint32_t> parse_key(std::string_view name);

// "17:4711:" and padding up to `bytes` (more if the numbers need it).
[[nodiscard]] std::string value_text(VersionedValue value, std::size_t bytes);
[[nodiscard]] std::optional<VersionedValue> parse_value(std::string_view text);

// A command as RESP.
[[nodiscard]] std::string command(std::initializer_list<std::string_view> words);

// The size of the complete RESP2 or RESP3 reply (or push) at the start of `in`, attributes excepted. Written apart from the
// codec under test, as everything here.
struct Frame {
  enum class State : std::uint8_t { kComplete, kIncomplete, kMalformed };
  State state = State::kIncomplete;
  std::size_t size = 0;
};
[[nodiscard]] Frame first_frame(std::string_view in);

// The bulk strings of a complete frame, at whatever depth, in order. Views into the frame.
void for_each_bulk(std::string_view frame, const std::function<void(std::string_view)>& take);

}  // namespace nearcached::loadtest
