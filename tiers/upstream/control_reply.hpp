// A reply on a control link, as a small tree.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace nearcached::tiers::upstream {

// hiredis's reader fills it directly (control_link.cpp), so that what reads replies needs no hiredis. A tree, because the
// replies of the control plane are few and tree-shaped; replies of the traffic never take this form.
struct ControlReply {
  enum class Type : std::uint8_t { kNil, kStatus, kError, kInteger, kString, kArray };

  Type type = Type::kNil;
  std::int64_t integer = 0;            // kInteger
  std::string text;                    // kStatus, kError (without '-' and CR LF), kString
  std::vector<ControlReply> elements;  // kArray

  [[nodiscard]] bool is_error() const { return type == Type::kError; }
  // The word an error begins with: "NOAUTH", "ERR" ...; empty if this is no error.
  [[nodiscard]] std::string_view error_code() const {
    return is_error() ? std::string_view(text).substr(0, text.find(' ')) : std::string_view();
  }
  [[nodiscard]] bool is_text() const { return type == Type::kString || type == Type::kStatus; }
};

}  // namespace nearcached::tiers::upstream
