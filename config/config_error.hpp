// What a wrong configuration ends as: a message for the person who wrote it.
#pragma once

#include <map>
#include <stdexcept>
#include <string>

namespace nearcached::config {

// Thrown at start only. what() is complete and without secrets: where (file:line, environment variable or flag), which
// key, what was found and what is allowed. main() prints it and exits with 2.
class ConfigError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Where a value came from: a file and a line, a flag, or an environment variable.
struct Origin {
  std::string name;
  int line = 0;  // 0: not a file
  [[nodiscard]] std::string text() const { return line > 0 ? name + ":" + std::to_string(line) : name; }
};

// Key path -> origin, of every key that is not at its default.
using Origins = std::map<std::string, Origin, std::less<>>;

}  // namespace nearcached::config
