// From argc, argv and the environment to settings. Flags win over the environment, that over the file, that over defaults.
#pragma once

#include <cstdint>
#include <string>

#include "config/schema.hpp"

namespace nearcached::config {

enum class Action : std::uint8_t {
  kRun,
  kCheck,    // --check-config: the settings are valid (it would have thrown), exit 0
  kPrint,    // --print-config: print_config(settings), exit 0
  kVersion,  // settings are not read
  kHelp,     // settings are not read
};

struct CommandLine {
  Action action = Action::kRun;
  Settings settings;        // validated; what is "auto" is still 0: resolve() fills it in
  Origins origins;          // for resolve()'s messages
  std::string config_file;  // empty: none was given
};

// `argv` as main() has it (argv[0] is skipped), `environment` null-terminated. Throws ConfigError, which names the flag, the
// variable or the line of the file. The first --help or --version ends the reading, as a wrong flag before it does.
[[nodiscard]] CommandLine parse_command_line(int argc, const char* const* argv, const char* const* environment);

// What --help prints.
[[nodiscard]] std::string help_text();

}  // namespace nearcached::config
