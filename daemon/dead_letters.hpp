// Writes that will never be upstream, written down for people.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tiers/write_behind/write_queue.hpp"

namespace nearcached::daemon {

struct DeadLetter {
  std::uint32_t database = 0;
  std::string_view key;
  const tiers::write_behind::Write* write = nullptr;
  std::uint64_t sequence = 0;  // in the write-behind log
  std::string_view error;      // why
};

// One line of JSON. Key and value, which are bytes, in hexadecimal; the key as text besides.
[[nodiscard]] std::string dead_letter_line(const DeadLetter& letter, std::int64_t time_ms);

// Appends lines to DIRECTORY/dead-letters.log, each durable before add() returns: it blocks for as long as the disk does.
// The file is never shortened nor removed here. A start that is killed may write down a second time what it has found.
//
// Threading: add() from any thread.
class DeadLetters {
 public:
  // Empty: there is no file, and what the process logs has to do.
  explicit DeadLetters(std::string directory);

  // Logs it as well. False: it could not be written down, which is logged; it may be in the file or not.
  [[nodiscard]] bool add(const DeadLetter& letter) const;

 private:
  const std::string path_;
};

}  // namespace nearcached::daemon
