// Users that the sidecar itself checks, as a key of the schema: "users", a list of maps.
#pragma once

#include <string>
#include <vector>

#include "config/key_types.hpp"
#include "config/schema.hpp"

namespace nearcached::config {

inline constexpr std::size_t kUsersMax = 256;
inline constexpr std::size_t kRulesMax = 256;  // of one user and one kind

// What commands and patterns mean is checked where they are compiled (daemon/access.hpp).
[[nodiscard]] Key users_key();

// A list of texts, or a single one; may be empty.
[[nodiscard]] Problem read_texts(const Value& value, std::vector<std::string>& texts);
[[nodiscard]] Value print_texts(const std::vector<std::string>& texts);

}  // namespace nearcached::config
