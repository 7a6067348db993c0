// The rules between keys; the rules of each key are in the schema.
#pragma once

#include "config/schema.hpp"

namespace nearcached::config {

// Throws ConfigError for the first rule that is broken: no upstream, both password and password_file, an unusable
// password_file, pause above close, entries larger than L1, one address for clients and admin. Values that are still
// "auto" (0) pass; resolve() checks what they become.
void validate(const Configuration& configuration);

}  // namespace nearcached::config
