// Settings as YAML, for --print-config.
#pragma once

#include <string>
#include <string_view>

#include "config/schema.hpp"

namespace nearcached::config {

// Every key with its present value, in the schema's order. load_text() reads it back to the same settings, apart from
// secrets, which are replaced by "<redacted>".
[[nodiscard]] std::string print_config(const Settings& settings);

// Where a key stands in the file: the lines that open its sections, as far as `previous`, the path of the key before it, is
// not below them too; and the spaces in front of its own name.
[[nodiscard]] std::string section_lines(std::string_view previous, std::string_view path);
[[nodiscard]] std::string indentation(std::string_view path);
[[nodiscard]] std::string_view own_name(std::string_view path);

// One value as YAML on one line, quoted where it must be: `[ "127.0.0.1:6380" ]`, `50MB`.
[[nodiscard]] std::string yaml_text(const Value& value);

}  // namespace nearcached::config
