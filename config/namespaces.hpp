// The list of namespaces as a key of the schema.
#pragma once

#include "config/schema.hpp"

namespace nearcached::config {

// "namespaces": a list of maps, each with `prefix` and what differs for its keys.
[[nodiscard]] Key namespaces_key();

}  // namespace nearcached::config
