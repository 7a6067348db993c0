// docs/configuration.md and config/examples/full.yaml say what the schema says. After a change of the schema:
//     nearcached_config_tests '[write-reference]'
// writes both anew.
#include <catch2/catch.hpp>
#include <fstream>
#include <sstream>
#include <string>

#include "config/loader.hpp"
#include "config/namespaces.hpp"
#include "config/print.hpp"
#include "config/validate.hpp"

namespace nearcached::config {
namespace {

const std::string kManual = std::string(NEARCACHED_SOURCE_DIR) + "/docs/configuration.md";
const std::string kFullExample = std::string(NEARCACHED_SOURCE_DIR) + "/config/examples/full.yaml";

// A part of the manual that is written from the schema stands between these.
std::string begin_of(const std::string& part) { return "<!-- " + part + ": begin, written from the schema -->\n"; }
std::string end_of(const std::string& part) { return "<!-- " + part + ": end -->\n"; }

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
  std::string previous;
  for (const Key& key : schema()) {
    const std::string indent = indentation(key.path);
    text += "\n" + section_lines(previous, key.path);
    text += indent + "# " + key.description + "\n" + indent + "# Allowed: " + key.allowed + ".\n";
    const Value value = key.example.empty() ? key.print(Settings{}) : Value::scalar(key.example);
    text += indent + std::string(own_name(key.path)) + ": " + yaml_text(value) + "\n";
    previous = key.path;
  }
  return text;
}

std::string namespace_table() {
  std::string text = "| name | where it is not given | allowed | what it is |\n|---|---|---|---|\n";
  for (const NamespaceField& field : namespace_fields()) {
    const std::string otherwise = field.otherwise.empty() ? "required" : "`" + std::string(field.otherwise) + "`";
    text += "| `" + std::string(field.name) + "` | " + otherwise + " | " + table_cell(field.allowed) + " | " +
            table_cell(std::string(field.description)) + " |\n";
  }
  return text;
}

// The manual with `content` in its place; empty if it has no place for it.
std::string with_part(const std::string& manual, const std::string& part, const std::string& content) {
  const std::size_t begin = manual.find(begin_of(part));
  const std::size_t end = manual.find(end_of(part));
  if (begin == std::string::npos || end == std::string::npos || end < begin) return {};
  return manual.substr(0, begin + begin_of(part).size()) + content + manual.substr(end);
}

std::string manual_with_tables(const std::string& manual) {
  return with_part(with_part(manual, "keys", reference_table()), "namespaces", namespace_table());
}

TEST_CASE("the manual lists exactly the keys of the schema and the names in a namespace") {
  const std::string manual = read(kManual);
  REQUIRE_FALSE(manual.empty());
  CHECK(manual == manual_with_tables(manual));
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
  const std::string manual = manual_with_tables(read(kManual));
  REQUIRE_FALSE(manual.empty());
  std::ofstream(kManual, std::ios::binary) << manual;
  std::ofstream(kFullExample, std::ios::binary) << full_example();
}

}  // namespace
}  // namespace nearcached::config
