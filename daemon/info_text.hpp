// The text that INFO answers, where a process before several nodes has to change it.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace nearcached::daemon {

// Gives the line that begins with `name` ("redis_mode:") another value, if there is one.
void replace_info_line(std::string& text, std::string_view name, std::string_view value);

// Puts the keys of all nodes into the section "# Keyspace" of the first one's text: numbers of a database ("db0:keys=1,
// expires=0,avg_ttl=0", Redis 8 has more) are added up, avg_ttl (milliseconds) is the average over the keys that expire.
// Without such a section nothing happens; databases that only others have are added behind its own, in order of number.
void merge_keyspaces(std::string& text, const std::vector<std::string>& others);

}  // namespace nearcached::daemon
