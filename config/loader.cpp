#include "config/loader.hpp"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>
#include <utility>
#include <vector>

#include "config/key_types.hpp"

namespace nearcached::config {
namespace {

// Whether the lines that yaml-cpp counts are those of a file, so that it helps to name them.
enum class Lines : bool { kNone, kOfFile };

[[noreturn]] void fail(const std::string& file, int line, const std::string& message) {
  throw ConfigError(Origin{file, line}.text() + ": " + message);
}

// Builds a Value out of one document's events. Every scalar stays text: what it is, the schema decides.
class Builder : public YAML::EventHandler {
 public:
  Builder(const std::string& file, Lines lines) : file_(file), lines_(lines) {}

  [[nodiscard]] Value take() { return std::move(root_); }
  [[nodiscard]] int line_of(const YAML::Mark& mark) const { return lines_ == Lines::kOfFile ? mark.line + 1 : 0; }

  void OnDocumentStart(const YAML::Mark& mark) override {
    if (document_seen_) fail(file_, line_of(mark), "a second document begins here; allowed: one");
    document_seen_ = true;
  }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    complete(Value::of(Value::Kind::kNull, line_of(mark)));
  }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t /*anchor*/) override {
    fail(file_, line_of(mark), "an alias (*name) is used here; allowed: values written out");
  }
  void OnScalar(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                const std::string& text) override {
    complete(Value::scalar(text, line_of(mark)));
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                       YAML::EmitterStyle::value /*style*/) override {
    open(Value::Kind::kList, line_of(mark));
  }
  void OnSequenceEnd() override { close(); }
  void OnMapStart(const YAML::Mark& mark, const std::string& /*tag*/, YAML::anchor_t /*anchor*/,
                  YAML::EmitterStyle::value /*style*/) override {
    open(Value::Kind::kMap, line_of(mark));
  }
  void OnMapEnd() override { close(); }

 private:
  struct Frame {
    Value value;
    bool has_name = false;  // of a map: the key is known, its value comes next
    std::string name;
    int name_line = 0;
  };

  void open(Value::Kind kind, int line) {
    if (!stack_.empty() && expects_name()) {
      // What yaml-cpp makes of "[a: b", too.
      fail(file_, line, "a key is " + describe(Value::of(kind)) + ", or a bracket is not closed; allowed: a name");
    }
    if (stack_.size() >= kYamlDepthMax) {
      fail(file_, line, "nested too deeply; allowed: " + std::to_string(kYamlDepthMax) + " levels");
    }
    stack_.push_back({.value = Value::of(kind, line), .has_name = false, .name = {}, .name_line = 0});
  }

  void close() {
    Value value = std::move(stack_.back().value);
    stack_.pop_back();
    complete(std::move(value));
  }

  [[nodiscard]] bool expects_name() const {
    return stack_.back().value.kind == Value::Kind::kMap && !stack_.back().has_name;
  }

  void complete(Value value) {
    if (stack_.empty()) {
      root_ = std::move(value);
    } else if (stack_.back().value.kind == Value::Kind::kList) {
      stack_.back().value.items.push_back(std::move(value));
    } else if (expects_name()) {
      begin_entry(value);
    } else {
      end_entry(std::move(value));
    }
  }

  void begin_entry(const Value& name) {
    if (name.kind != Value::Kind::kScalar) fail(file_, name.line, "a key is " + describe(name) + "; allowed: a name");
    Frame& frame = stack_.back();
    const auto& entries = frame.value.entries;
    const auto same =
        std::find_if(entries.begin(), entries.end(), [&](const MapEntry& entry) { return entry.name == name.text; });
    if (same != entries.end()) {
      const std::string before = same->line > 0 ? ", before in line " + std::to_string(same->line) : "";
      fail(file_, name.line, path_to(name.text) + ": given twice" + before + "; allowed: once");
    }
    if (entries.size() >= kYamlMapMax) {
      fail(file_, name.line, "a map has too many keys; allowed: " + std::to_string(kYamlMapMax));
    }
    frame.name = name.text;
    frame.name_line = name.line;
    frame.has_name = true;
  }

  void end_entry(Value value) {
    Frame& frame = stack_.back();
    // yaml-cpp places a missing value at the token behind it, often the next line.
    if (value.kind == Value::Kind::kNull) value.line = frame.name_line;
    frame.value.entries.push_back({std::move(frame.name), frame.name_line, std::move(value)});
    frame.has_name = false;
  }

  [[nodiscard]] std::string path_to(const std::string& name) const {
    std::string path;
    for (const Frame& frame : stack_) {
      if (frame.has_name) path += frame.name + ".";
    }
    return path + name;
  }

  const std::string& file_;
  const Lines lines_;
  bool document_seen_ = false;
  std::vector<Frame> stack_;
  Value root_;
};

Value parse_yaml(std::string_view text, const std::string& file, Lines lines) {
  // yaml-cpp takes a quote that is never closed for closed if the file ends with a newline; without one it is an error.
  const std::size_t last = text.find_last_not_of(" \t\r\n");
  std::istringstream stream{std::string(text.substr(0, last == std::string_view::npos ? 0 : last + 1))};
  Builder builder(file, lines);
  try {
    YAML::Parser parser(stream);
    while (parser.HandleNextDocument(builder)) {}
  } catch (const YAML::Exception& error) {
    fail(file, error.mark.is_null() ? 0 : builder.line_of(error.mark), "not valid YAML: " + error.msg);
  }
  return builder.take();
}

// Every key below `section`. The depth is that of the schema, since a level without keys in the schema is an unknown key.
void assign_map(Configuration& configuration, const Value& map, const std::string& section, const std::string& file) {
  if (map.kind != Value::Kind::kMap) {
    const std::string subject = section.empty() ? "" : section + ": ";
    fail(file, map.line, subject + describe(map) + " is not a map of keys; allowed: " + names_below(section));
  }
  for (const MapEntry& entry : map.entries) {
    const Origin origin{file, entry.line};
    if (entry.name.find('.') != std::string::npos) {
      const std::string path = section.empty() ? entry.name : section + "." + entry.name;
      if (find_key(path) == nullptr) throw_unknown_key(origin, path);
      fail(file, entry.line, path + ": is written with a dot; allowed: the key below its section, indented");
    }
    const std::string path = section.empty() ? entry.name : section + "." + entry.name;
    if (const Key* key = find_key(path)) {
      configuration.assign(*key, entry.value, origin);
    } else if (!is_section(path)) {
      throw_unknown_key(origin, path);
    } else if (entry.value.kind != Value::Kind::kNull) {
      assign_map(configuration, entry.value, path, file);
    }
  }
}

std::vector<std::string_view> comma_separated(std::string_view text) {
  std::vector<std::string_view> parts;
  std::size_t from = 0;
  while (from <= text.size()) {
    const std::size_t comma = std::min(text.find(',', from), text.size());
    parts.push_back(text.substr(from, comma - from));
    from = comma + 1;
  }
  return parts;
}

std::string read_file(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) throw ConfigError(path + ": can't be read: it is a directory");
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ConfigError(path + ": can't be read: " + std::generic_category().message(errno));
  std::string content(kFileBytesMax + 1, '\0');
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (file.bad()) throw ConfigError(path + ": can't be read: " + std::generic_category().message(errno));
  content.resize(static_cast<std::size_t>(file.gcount()));
  return content;
}

}  // namespace

void load_text(Configuration& configuration, std::string_view text, const std::string& name) {
  if (text.size() > kFileBytesMax) throw ConfigError(name + ": is larger than 1MB; allowed: at most 1MB");
  const Value root = parse_yaml(text, name, Lines::kOfFile);
  if (root.kind != Value::Kind::kNull) assign_map(configuration, root, "", name);
}

void load_file(Configuration& configuration, const std::string& path) { load_text(configuration, read_file(path), path); }

Value value_from_text(const Key& key, std::string_view text, const Origin& origin) {
  const Value::Kind kind = key.print(Settings{}).kind;
  if (kind == Value::Kind::kScalar) return Value::scalar(std::string(text));
  if (text.empty()) return Value::of(kind);
  if (key.text_form == TextForm::kYaml) return parse_yaml(text, origin.text() + ": " + key.path, Lines::kNone);
  Value value = Value::of(kind);
  for (const std::string_view part : comma_separated(text)) {
    if (kind == Value::Kind::kList) {
      value.items.push_back(Value::scalar(std::string(part)));
      continue;
    }
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos) return Value::scalar(std::string(text));
    value.entries.push_back({std::string(part.substr(0, equals)), 0, Value::scalar(std::string(part.substr(equals + 1)))});
  }
  return value;
}

}  // namespace nearcached::config
