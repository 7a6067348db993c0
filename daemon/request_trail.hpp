// What a client's unanswered requests were, for those that turn out to be slow.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::daemon {

// Whether a command is slow is known when it is answered, and then its arguments are long gone. So the beginning of each is
// copied when it leaves the process: one queue of bytes per client, first in first out as the replies are, which costs a
// copy and, unless the client pipelines a lot, no allocation. Hits leave no trail.
//
//     bytes_   | dropped | header, args | header, args | ... |
//                        ^ head_
//
// Bounds: kShownArgs arguments of kShownBytes each, as Redis keeps of them in its SLOWLOG; beyond kBytesMax of a client, the
// name alone. Confined to the session's worker.
class RequestTrail {
 public:
  static constexpr std::size_t kShownArgs = 32;
  static constexpr std::size_t kShownBytes = 128;
  static constexpr std::size_t kBytesMax = 64 * 1024;

  struct Entry {
    std::string_view command;  // as given to note()
    std::int64_t taken_us = 0;
  };

  // `command` has static lifetime. The ticket is never 0. Secrets are not kept.
  [[nodiscard]] std::uint64_t note(std::string_view command, std::int64_t taken_us, std::span<const std::string_view> args);
  [[nodiscard]] Entry at(std::uint64_t ticket) const;
  // As Redis's SLOWLOG shows them: "... (3 more arguments)", "abc... (17 more bytes)".
  [[nodiscard]] std::vector<std::string> args(std::uint64_t ticket) const;
  // That one and all before it.
  void drop(std::uint64_t ticket);

  [[nodiscard]] std::size_t memory_bytes() const { return bytes_.capacity(); }

 private:
  struct Header {
    const char* name;
    std::uint32_t name_bytes;
    std::uint32_t entry_bytes;  // this header included
    std::int64_t taken_us;
    std::uint32_t args;
    std::uint32_t kept;
  };

  [[nodiscard]] Header header(std::uint64_t ticket) const;
  void append_number(std::uint32_t number);

  std::string bytes_;
  std::size_t head_ = 0;
  std::uint64_t base_ = 1;  // ticket of bytes_[0]
};

}  // namespace nearcached::daemon
