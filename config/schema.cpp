#include "config/schema.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

#include "config/key_sections.hpp"

namespace nearcached::config {
namespace {

// What is behind is not compared: the cost of a comparison grows with the length.
constexpr std::size_t kNameComparedMax = 128;

std::string_view last_word(std::string_view path) {
  const std::size_t dot = path.rfind('.');
  return dot == std::string_view::npos ? path : path.substr(dot + 1);
}

// Levenshtein; paths are short and this runs once, on the way to an exit.
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] == b[j] ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, row[j + 1] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string Key::environment() const {
  std::string name(kEnvironmentPrefix);
  for (const char c : path) {
    if (c == '.') {
      name += "__";
    } else {
      name += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
    }
  }
  return name;
}

const std::vector<Key>& schema() {
  static const std::vector<Key> keys = make_schema();
  return keys;
}

const Key* find_key(std::string_view path) {
  const auto& keys = schema();
  const auto found = std::find_if(keys.begin(), keys.end(), [path](const Key& key) { return key.path == path; });
  return found == keys.end() ? nullptr : &*found;
}

bool is_section(std::string_view path) {
  if (path.empty()) return true;
  const auto& keys = schema();
  return std::any_of(keys.begin(), keys.end(), [path](const Key& key) {
    return key.path.size() > path.size() && key.path.starts_with(path) && key.path[path.size()] == '.';
  });
}

std::string names_below(std::string_view section) {
  std::string names;
  std::string_view previous;
  const std::size_t skip = section.empty() ? 0 : section.size() + 1;
  for (const Key& key : schema()) {
    if (!section.empty() && (!key.path.starts_with(section) || key.path.size() <= skip || key.path[skip - 1] != '.'))
      continue;
    const std::string_view rest = std::string_view(key.path).substr(skip);
    const std::string_view name = rest.substr(0, rest.find('.'));
    if (name == previous) continue;
    if (!names.empty()) names += ", ";
    names += name;
    previous = name;
  }
  return names;
}

std::string_view nearest_word(std::string_view word, std::span<const std::string_view> among) {
  word = word.substr(0, kNameComparedMax);
  return *std::min_element(among.begin(), among.end(),
                           [word](std::string_view a, std::string_view b) { return edits(word, a) < edits(word, b); });
}

std::string nearest_key(std::string_view path, Nearest among) {
  path = path.substr(0, kNameComparedMax);
  std::string_view best;
  std::size_t best_edits = std::numeric_limits<std::size_t>::max();
  const auto consider = [&](std::string_view candidate) {
    // The whole path first; one edit more where only the last words are alike, in another section.
    const std::size_t distance = std::min(edits(path, candidate), edits(last_word(path), last_word(candidate)) + 1);
    if (distance >= best_edits) return;
    best_edits = distance;
    best = candidate;
  };
  for (const Key& key : schema()) {
    consider(key.path);
    if (among == Nearest::kKeys) continue;
    for (std::size_t dot = key.path.find('.'); dot != std::string::npos; dot = key.path.find('.', dot + 1)) {
      consider(std::string_view(key.path).substr(0, dot));
    }
  }
  return std::string(best);
}

void Configuration::assign(const Key& key, const Value& value, Origin origin) {
  Problem problem = key.set(settings, value);
  if (!problem.text.empty()) {
    if (problem.line > 0) origin.line = problem.line;
    const std::string& allowed = problem.allowed.empty() ? key.allowed : problem.allowed;
    throw ConfigError(origin.text() + ": " + key.path + problem.part + ": " + problem.text + "; allowed: " + allowed);
  }
  origins.insert_or_assign(key.path, std::move(origin));
}

void throw_unknown_key(const Origin& origin, std::string_view path) {
  throw ConfigError(origin.text() + ": unknown key \"" + std::string(path) + "\"; the nearest known key is " +
                    nearest_key(path, Nearest::kKeysAndSections));
}

}  // namespace nearcached::config
