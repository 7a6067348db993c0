// docs/configuration.md and config/examples/full.yaml say what the schema says. After a change of the schema:
//     nearcached_config_tests '[write-reference]'
// writes both anew.
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "config/loader.hpp"
#include "config/print.hpp"
#include "config/validate.hpp"

namespace nearcached::config {
namespace {

const std::string kManual = std::string(NEARCACHED_SOURCE_DIR) + "/docs/configuration.md";
const std::string kFullExample = std::string(NEARCACHED_SOURCE_DIR) + "/config/examples/full.yaml";
const std::string kBegin = "<!-- keys: begin, written from the schema -->\n";
const std::string kEnd = "<!-- keys: end -->\n";

std::string read(const std::string& path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

std::string default_text(const Key& key) {
  const Value value = key.print(Settings{});
  return value.kind == Value::Kind::kScalar && value.text.empty() ? "" : yaml_text(value);
}

std::string table_cell(const std::string& text) {
  std::string cell;
  for (const char c : text) {
    if (c == '|') cell += '\\';
    cell += c;
  }
  return cell;
}

std::string reference_table() {
  std::string text = "| key | default | allowed | what it is | environment |\n|---|---|---|---|---|\n";
  for (const Key& key : schema()) {
    const std::string value = default_text(key);
    text += "| `" + key.path + "` | " + (value.empty() ? "" : "`" + table_cell(value) + "`") + " | " + key.type + ": " +
            table_cell(key.allowed) + " | " + table_cell(key.description) + " | `" + key.environment() + "` |\n";
  }
  return text;
}

std::string full_example() {
  std::string text =
      "# Every key, at its default. Only upstream.url must be given.\n"
      "# Written from the schema; see docs/configuration.md.\n";
  std::string section;
  for (const Key& key : schema()) {
    const std::size_t dot = key.path.find('.');
    const std::string indent = dot == std::string::npos ? "" : "  ";
    const std::string name = dot == std::string::npos ? key.path : key.path.substr(dot + 1);
    const std::string now = dot == std::string::npos ? "" : key.path.substr(0, dot);
    text += "\n";
    if (now != section) text += now + ":\n";
    section = now;
    text += indent + "# " + key.description + "\n" + indent + "# Allowed: " + key.allowed + ".\n";
    const Value value = key.example.empty() ? key.print(Settings{}) : Value::scalar(key.example);
    text += indent + name + ": " + yaml_text(value) + "\n";
  }
  return text;
}

// The manual with the table in its place; empty if it has no place for one.
std::string manual_with_table(const std::string& manual) {
  const std::size_t begin = manual.find(kBegin);
  const std::size_t end = manual.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return manual.substr(0, begin + kBegin.size()) + reference_table() + manual.substr(end);
}

TEST_CASE("the manual lists exactly the keys of the schema") {
  const std::string manual = read(kManual);
  REQUIRE_FALSE(manual.empty());
  CHECK(manual == manual_with_table(manual));
}

TEST_CASE("full.yaml has every key at its default") {
  CHECK(read(kFullExample) == full_example());
  Configuration configuration;
  load_file(configuration, kFullExample);
  validate(configuration);
  CHECK(configuration.origins.size() == schema().size());
  configuration.settings.upstream.url = {};
  CHECK(print_config(configuration.settings) == print_config(Settings{}));
}

TEST_CASE("write the reference anew", "[.][write-reference]") {
  const std::string manual = manual_with_table(read(kManual));
  REQUIRE_FALSE(manual.empty());
  std::ofstream(kManual, std::ios::binary) << manual;
  std::ofstream(kFullExample, std::ios::binary) << full_example();
}

}  // namespace
}  // namespace nearcached::config
