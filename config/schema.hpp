// The one table of everything that can be set.
//
//     nearcached.yaml --+
//     NEARCACHED_...  --+--> Value --> Key::set --> Settings --> Key::print --> --print-config
//     --set, --listen --+                 |
//                                         +--> type, allowed, default, description --> docs, examples, error messages
//
// A key is one entry here: path, type, range, description, and where in Settings it lives. The loader, the environment,
// the command line, the printer and the reference in docs/ go through the table and know no key by name. The price is
// that a key's type must be one of the types of schema.cpp; rules between keys are in validate.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config_error.hpp"
#include "config/settings.hpp"
#include "config/value.hpp"

namespace nearcached::config {

// What is wrong with a value ("\"lots\" is not a size"); empty text: nothing.
struct Problem {
  std::string text;
  int line = 0;              // of the part that is wrong, if it is not the value's first line
  std::string part = {};     // which part of a list or map that is, as it stands behind the key's path: "[2].l1_ttl"
  std::string allowed = {};  // for that part; empty: what is allowed for the key
};

// How a flag or a variable, which have but one piece of text, give a list or a map.
enum class TextForm : std::uint8_t {
  kCommas,  // split at commas; the names of a map end at the first '='
  kYaml,    // as in the file, and so as JSON
};

// Immutable once the table is built; the functions are pure.
struct Key {
  std::string path;         // "l1.max_bytes"
  std::string type;         // one or two words, for the reference: "bytes"
  std::string allowed;      // "a number of bytes with optional KB, MB, GB, or auto, from 1MB to 64GB"
  std::string description;  // one sentence
  std::string example;      // shown where the default is empty
  TextForm text_form = TextForm::kCommas;
  std::function<Problem(Settings&, const Value&)> set;  // changes nothing if it returns a problem
  std::function<Value(const Settings&)> print;          // secrets redacted; set() takes what it returns

  [[nodiscard]] std::string environment() const;  // "NEARCACHED_L1__MAX_BYTES"
};

inline constexpr std::string_view kEnvironmentPrefix = "NEARCACHED_";

// All keys, in the order in which they are documented and printed; those of a section stand together.
[[nodiscard]] const std::vector<Key>& schema();

[[nodiscard]] const Key* find_key(std::string_view path);

// Whether keys exist below `path` ("l1"); the empty path is the root.
[[nodiscard]] bool is_section(std::string_view path);

// The keys below a section as one line: "enabled, max_bytes, ...". Top-level names for the empty path.
[[nodiscard]] std::string names_below(std::string_view section);

// The one of `among`, which is not empty, that takes the least edits.
[[nodiscard]] std::string_view nearest_word(std::string_view word, std::span<const std::string_view> among);

// The known key that `path` was probably meant to be: least edits, over the whole path or its last word. A section's name
// counts as well where one could have been meant.
enum class Nearest : bool { kKeys, kKeysAndSections };
[[nodiscard]] std::string nearest_key(std::string_view path, Nearest among);

// Settings as they are being put together, and where each came from. Later assignments win.
struct Configuration {
  Settings settings;
  Origins origins;

  // Throws ConfigError if the value is not allowed.
  void assign(const Key& key, const Value& value, Origin origin);
};

// Throws: `unknown key "l1.max_byte"; the nearest known key is l1.max_bytes`, after the origin.
[[noreturn]] void throw_unknown_key(const Origin& origin, std::string_view path);

}  // namespace nearcached::config
