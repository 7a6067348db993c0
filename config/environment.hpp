// Settings from environment variables: NEARCACHED_ + the key in capitals, with "__" for each dot.
#pragma once

#include <string_view>

#include "config/schema.hpp"

namespace nearcached::config {

// `environment` is a null-terminated list of "NAME=value", as main() gets it. Throws ConfigError for a value that is not
// allowed, and for a variable with the prefix that is no key: a misspelled one must not be silently without effect.
void apply_environment(Configuration& configuration, const char* const* environment);

// Whether Kubernetes sets this variable in every pod for a Service called nearcached or nearcached-<anything>:
// ..._SERVICE_HOST, ..._SERVICE_PORT[_<NAME>], ..._PORT=tcp://..., ..._PORT_<number>_<protocol>[_PROTO|_PORT|_ADDR].
[[nodiscard]] bool is_kubernetes_service_variable(std::string_view name, std::string_view value);

}  // namespace nearcached::config
