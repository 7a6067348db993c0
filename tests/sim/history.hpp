// What every key's value truly was, and when; and what of it a sidecar's clients have been told.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/sim/kernel.hpp"

namespace nearcached::sim {

// A value as text: "" absent, "s..." a string, "h" and "field=value;" for each field.
using Value = std::string;

enum class ReadKind : std::uint8_t { kGet, kGetRange, kExists, kHashField, kHashAll };

// What a read of that kind shows of a value: "(nil)", "0", "v17", "f=v3;g=v9;".
[[nodiscard]] std::string observe(ReadKind kind, const Value& value);

// A key's versions in the order in which they were true; a version that is true again (a rollback, a value that comes back)
// is a new one. The *place* of a version is its index.
//
// Checked, per key:
//   - bound: a version that was read was true at some instant of [request read by the sidecar - max_staleness, reply];
//   - order: it is not before the floor of its sidecar when the request was sent: the last version that a client of this
//     sidecar has read, or has had acknowledged as written, before that;
//   - causal: nor before the floor that the client itself got from what it heard.
// A read that fits several versions (nil does) counts as the earliest that is possible: sound, and a little lenient.
class History {
 public:
  struct Version {
    Value value;
    std::int64_t from_us = 0;
  };

  void set(const std::string& key, const Value& value, std::int64_t now_us);
  [[nodiscard]] const Value& present(const std::string& key) const;

  // The first version at `floor` or behind it that shows `got` and was true at some instant of [low, high].
  [[nodiscard]] std::optional<std::size_t> earliest(const std::string& key, ReadKind kind, const std::string& got,
                                                    std::int64_t low_us, std::int64_t high_us, std::size_t floor) const;
  // The version that was true then.
  [[nodiscard]] std::size_t place_at(const std::string& key, std::int64_t when_us) const;
  [[nodiscard]] std::int64_t since_us(const std::string& key, std::size_t place) const { return of(key)[place].from_us; }

  [[nodiscard]] std::size_t floor(int sidecar, const std::string& key) const;
  void raise_floor(int sidecar, const std::string& key, std::size_t place);

  // For people: the versions of a key around a time.
  [[nodiscard]] std::string describe(const std::string& key, std::int64_t low_us, std::int64_t high_us) const;

 private:
  [[nodiscard]] const std::vector<Version>& of(const std::string& key) const;

  std::map<std::string, std::vector<Version>> versions_;
  std::array<std::map<std::string, std::size_t>, kSidecarsMax> floors_;
};

}  // namespace nearcached::sim
