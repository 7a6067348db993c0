// The YAML file, and values that are written as YAML elsewhere. yaml-cpp is known to loader.cpp alone.
//
// The file is read as events, not as yaml-cpp's tree: only the events have the line of each key, tell that a key is given
// twice, and let nesting and aliases be refused before anything is built from them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "config/schema.hpp"

namespace nearcached::config {

inline constexpr std::size_t kFileBytesMax = 1u << 20;
inline constexpr int kYamlDepthMax = 16;
inline constexpr std::size_t kYamlMapMax = 1000;  // keys of one map: finding duplicates is quadratic

// Assigns everything that the file sets. Throws ConfigError: missing, unreadable or too large, not YAML, aliases, several
// documents, a key unknown or given twice, a value that is not allowed.
void load_file(Configuration& configuration, const std::string& path);

// The same from memory; `name` stands where the file's name would.
void load_text(Configuration& configuration, std::string_view text, const std::string& name);

// A value as flags and the environment have it, one piece of text, in the key's TextForm. Throws ConfigError: not YAML where
// that is the form.
[[nodiscard]] Value value_from_text(const Key& key, std::string_view text, const Origin& origin);

}  // namespace nearcached::config
