// The request that a cache answers most: GET of one key, in the form that every client sends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace nearcached::protocol {

struct PlainGet {
  std::string_view key;   // a view into the input
  std::size_t bytes = 0;  // of the whole request
};

// A longer key is left to RequestParser.
inline constexpr std::size_t kPlainGetKeyMax = 999;

// True if the input begins with a whole "*2\r\n$3\r\nGET\r\n$<n>\r\n<key>\r\n", the name in any case and n of one to three
// digits without a leading zero. Everything else, RequestParser's answer included, is its to give: this takes a part of what
// that takes, as it takes it. It costs some 30 instructions instead of 170.
[[nodiscard]] inline bool take_plain_get(std::string_view input, PlainGet& get) noexcept {
  constexpr std::size_t kHead = 14;                 // up to and with the second '$'
  constexpr std::size_t kShortest = kHead + 1 + 4;  // an empty key: "0\r\n\r\n"
  constexpr std::uint64_t kCase = 0x0000000000202020u;
  if (input.size() < kShortest) return false;
  const auto load = [](const char* at) {
    std::uint64_t word;
    std::memcpy(&word, at, sizeof word);
    return word;
  };
  const char* const begin = input.data();
  static constexpr char kCount[] = {'*', '2', '\r', '\n', '$', '3', '\r', '\n'};
  static constexpr char kName[] = {'g', 'e', 't', '\r', '\n', '$', '\0', '\0'};
  if (load(begin) != load(kCount)) return false;
  if (((load(begin + sizeof kCount) ^ load(kName)) & ~kCase & 0x0000FFFFFFFFFFFFu) != 0) return false;
  const char* at = begin + kHead;
  const char* const end = begin + input.size();
  const auto digit = [](char c) { return static_cast<unsigned>(static_cast<unsigned char>(c)) - unsigned{'0'}; };
  std::size_t size = digit(*at++);
  if (size > 9) return false;
  for (int more = 0; more < 2 && size != 0 && digit(*at) <= 9; ++more) size = size * 10 + digit(*at++);
  if (end - at < 4 || at[0] != '\r' || at[1] != '\n') return false;
  at += 2;
  if (static_cast<std::size_t>(end - at) < size + 2 || at[size] != '\r' || at[size + 1] != '\n') return false;
  get.key = {at, size};
  get.bytes = static_cast<std::size_t>(at + size + 2 - begin);
  return true;
}

}  // namespace nearcached::protocol
