#include "daemon/dead_letters.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "daemon/log.hpp"
#include "daemon/text_escape.hpp"

namespace nearcached::daemon {

using tiers::write_behind::Write;

namespace {

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const char c : bytes) {
    text += kDigits[static_cast<unsigned char>(c) >> 4];
    text += kDigits[static_cast<unsigned char>(c) & 15];
  }
  return text;
}

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

// Empty, or what went wrong.
std::string append_durably(const std::string& path, std::string_view text) {
  const int file = open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return std::strerror(errno);
  errno = ENOSPC;  // what a write that comes out short means
  const bool done = write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && fdatasync(file) == 0;
  const std::string problem = done ? "" : std::strerror(errno);
  close(file);
  return problem;
}

}  // namespace

std::string dead_letter_line(const DeadLetter& letter, std::int64_t time_ms) {
  const Write& write = *letter.write;
  std::string line =
      "{\"time_ms\": " + std::to_string(time_ms) + ", \"database\": " + std::to_string(letter.database) + ", \"key\": ";
  append_json_string(line, letter.key);
  line += ", \"key_hex\": \"" + hex(letter.key) + "\", \"kind\": \"";
  line += write.kind == Write::Kind::kDelete ? "delete" : "set";
  line += "\", \"value_hex\": \"" + hex(write.value) + "\", \"expires_at_ms\": " + std::to_string(write.expires_at_ms) +
          ", \"sequence\": " + std::to_string(letter.sequence) + ", \"error\": ";
  append_json_string(line, letter.error);
  return line + "}\n";
}

DeadLetters::DeadLetters(std::string directory)
    : path_(directory.empty() ? std::move(directory) : directory + "/dead-letters.log") {}

bool DeadLetters::add(const DeadLetter& letter) const {
  log::error("write_behind_dead_letter",
             {{"database", letter.database}, {"key", letter.key}, {"sequence", letter.sequence}, {"error", letter.error}});
  if (path_.empty()) return true;
  const std::string problem = append_durably(path_, dead_letter_line(letter, unix_ms()));
  if (problem.empty()) return true;
  log::error("write_behind_dead_letter_kept", {{"file", path_}, {"reason", problem}, {"meaning", "it is tried again"}});
  return false;
}

}  // namespace nearcached::daemon
