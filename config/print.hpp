// Settings as YAML, for --print-config.
#pragma once

#include <string>
#include <string_view>

#include "config/schema.hpp"

namespace nearcached::config {

// Every key with its present value, in the schema's order. load_text() reads it back to the same settings, apart from
// secrets, which are replaced by "<redacted>".
[[nodiscard]] std::string print_config(const Settings& settings);

// One value as YAML on one line, quoted where it must be: `[ "127.0.0.1:6380" ]`, `50MB`.
[[nodiscard]] std::string yaml_text(const Value& value);

}  // namespace nearcached::config
