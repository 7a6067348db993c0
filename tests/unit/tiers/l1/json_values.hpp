// Values as applications keep them: JSON of a given size, from a seed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <string>

namespace nearcached::tiers::l1::testing {

// Names repeat from value to value, what they are given does not: numbers, words, a hash.
inline std::string json_value(std::uint32_t seed, std::size_t bytes) {
  static constexpr const char* kFields[] = {"name",    "email",   "status", "created_at",
                                            "balance", "address", "tags",   "session"};
  static constexpr const char* kWords[] = {"alpha", "bravo", "charlie", "delta", "echo", "foxtrot", "golf", "hotel"};
  std::minstd_rand random(seed + 1);
  std::string value = "{\"id\":" + std::to_string(random());
  while (value.size() < bytes) {
    value += std::string(",\"") + kFields[random() % 8] + "\":\"" + kWords[random() % 8] + "-" + std::to_string(random()) +
             "-" + kWords[random() % 8] + "\"";
  }
  return value + "}";
}

inline std::string bulk(const std::string& value) { return "$" + std::to_string(value.size()) + "\r\n" + value + "\r\n"; }

// Nothing to gain from.
inline std::string noise(std::uint32_t seed, std::size_t bytes) {
  std::minstd_rand random(seed + 1);
  std::string value;
  while (value.size() < bytes) value += static_cast<char>(random() >> 8);
  return value;
}

}  // namespace nearcached::tiers::l1::testing
