#include "config/users.hpp"

#include <algorithm>
#include <functional>
#include <string_view>
#include <utility>

#include "config/upstream_url.hpp"

namespace nearcached::config {
namespace {

// One name in the map that is a user.
struct UserField {
  std::string_view name;
  std::string_view allowed;
  std::function<Problem(User&, const Value&)> set;
  std::function<Value(const User&)> print;  // null: not given
};

UserField text_field(std::string_view name, std::string_view allowed, std::string User::*member, bool secret = false) {
  UserField field{name, allowed, {}, {}};
  field.set = [member](User& user, const Value& value) -> Problem { return read_text(value, user.*member); };
  field.print = [member, secret](const User& user) {
    if ((user.*member).empty()) return Value::of(Value::Kind::kNull);
    return Value::scalar(secret ? std::string(kRedacted) : user.*member);
  };
  return field;
}

UserField list_field(std::string_view name, std::string_view allowed, std::vector<std::string> User::*member,
                     bool secret = false) {
  UserField field{name, allowed, {}, {}};
  field.set = [member](User& user, const Value& value) -> Problem { return read_texts(value, user.*member); };
  field.print = [member, secret](const User& user) {
    std::vector<std::string> texts = user.*member;
    if (texts.empty()) return Value::of(Value::Kind::kNull);
    if (secret) std::fill(texts.begin(), texts.end(), std::string(kRedacted));
    return print_texts(texts);
  };
  return field;
}

UserField switch_field(std::string_view name, bool User::*member) {
  UserField field{name, "true or false", {}, {}};
  field.set = [member](User& user, const Value& value) -> Problem {
    return read_word(Words<bool, 2>{{{"false", false}, {"true", true}}}, value, user.*member);
  };
  field.print = [member](const User& user) { return user.*member ? Value::scalar("true") : Value::of(Value::Kind::kNull); };
  return field;
}

const std::vector<UserField>& fields() {
  static const std::vector<UserField> all{
      text_field("name", "1 to 128 bytes without spaces, each name once", &User::name),
      switch_field("nopass", &User::nopass),
      list_field("password_hashes", "SHA-256 digests in hexadecimal", &User::password_hashes, true),
      list_field("password_files", "paths of readable files, the first line of each a password", &User::password_files),
      list_field("commands", "rules as +@all, +@read, -@dangerous, +get, -config|set", &User::commands),
      list_field("keys", "patterns as app:*, and %R~app:* for what may only be read", &User::keys),
      list_field("channels", "patterns of Pub/Sub channels", &User::channels),
      switch_field("read_only", &User::read_only),
      text_field("upstream_username", "text", &User::upstream_username),
      text_field("upstream_password", "text", &User::upstream_password, true),
      text_field("upstream_password_file", "the path of a readable file, its first line the password",
                 &User::upstream_password_file),
  };
  return all;
}

std::string field_names() {
  std::string names;
  for (const UserField& field : fields()) names += (names.empty() ? "" : ", ") + std::string(field.name);
  return names;
}

Problem read_user(const Value& value, const std::string& part, User& user) {
  if (value.kind != Value::Kind::kMap) return {describe(value) + " is not a map", value.line, part, field_names()};
  for (const MapEntry& entry : value.entries) {
    const auto field =
        std::find_if(fields().begin(), fields().end(), [&](const UserField& its) { return its.name == entry.name; });
    if (field == fields().end()) {
      return {"unknown key " + describe(Value::scalar(entry.name)), entry.line, part, field_names()};
    }
    Problem problem = field->set(user, entry.value);
    if (problem.text.empty()) continue;
    problem.part = part + "." + entry.name;
    problem.allowed = field->allowed;
    return problem;
  }
  constexpr std::size_t kNameMax = 128;
  if (user.name.empty() || user.name.size() > kNameMax || user.name.find(' ') != std::string::npos) {
    return {"has no name of 1 to 128 bytes without spaces", value.line, part, field_names()};
  }
  if (user.nopass == (!user.password_hashes.empty() || !user.password_files.empty())) {
    return {"has a password and nopass, or neither", value.line, part, field_names()};
  }
  return {};
}

}  // namespace

Problem read_texts(const Value& value, std::vector<std::string>& texts) {
  if (value.kind == Value::Kind::kNull) return {"has no value", value.line};
  if (value.kind == Value::Kind::kMap) return {"a map is not a list", value.line};
  const std::vector<Value> items = value.kind == Value::Kind::kScalar ? std::vector<Value>{value} : value.items;
  if (items.size() > kRulesMax) return {"the list is longer than " + std::to_string(kRulesMax), value.line};
  std::vector<std::string> read;
  for (const Value& item : items) {
    if (Problem problem = read_text(item, read.emplace_back()); !problem.text.empty()) return problem;
  }
  texts = std::move(read);
  return {};
}

Value print_texts(const std::vector<std::string>& texts) {
  Value list = Value::of(Value::Kind::kList);
  for (const std::string& text : texts) list.items.push_back(Value::scalar(text));
  return list;
}

Key users_key() {
  Key key;
  key.path = "users";
  key.type = "list";
  key.allowed = "up to " + std::to_string(kUsersMax) + " maps of " + field_names();
  key.description = "Whom AUTH lets in, and to what. None: the upstream decides.";
  key.text_form = TextForm::kYaml;
  key.set = [](Settings& settings, const Value& value) -> Problem {
    if (value.kind != Value::Kind::kList) return {describe(value) + " is not a list of maps", value.line};
    if (value.items.size() > kUsersMax) return {"the list is longer than " + std::to_string(kUsersMax), value.line};
    std::vector<User> users;
    for (const Value& item : value.items) {
      const std::string part = "[" + std::to_string(users.size()) + "]";
      User user;
      if (Problem problem = read_user(item, part, user); !problem.text.empty()) return problem;
      const bool twice = std::any_of(users.begin(), users.end(), [&](const User& other) { return other.name == user.name; });
      if (twice) return {"the name \"" + user.name + "\" is given twice", item.line, part, field_names()};
      users.push_back(std::move(user));
    }
    settings.users = std::move(users);
    return {};
  };
  key.print = [](const Settings& settings) {
    Value list = Value::of(Value::Kind::kList);
    for (const User& user : settings.users) {
      Value map = Value::of(Value::Kind::kMap);
      for (const UserField& field : fields()) {
        Value value = field.print(user);
        if (value.kind != Value::Kind::kNull) map.entries.push_back({std::string(field.name), 0, std::move(value)});
      }
      list.items.push_back(std::move(map));
    }
    return list;
  };
  return key;
}

}  // namespace nearcached::config
