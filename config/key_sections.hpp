// The rows of the schema. Only schema.cpp includes this; everyone else asks schema().
#pragma once

#include <vector>

#include "config/schema.hpp"

namespace nearcached::config {

[[nodiscard]] std::vector<Key> make_schema();

}  // namespace nearcached::config
