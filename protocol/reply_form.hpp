// What a RESP2 client gets for a reply that was read in RESP3.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "protocol/command_table.hpp"

namespace nearcached::protocol {

// True if the bytes are a whole answer in both versions: a string that is there, a status, an integer. Only the first bytes
// are looked at. An error is the same in both too, but is no answer that is kept: false.
[[nodiscard]] inline bool same_in_resp2(std::string_view resp3_reply) {
  if (resp3_reply.empty()) return false;
  const char type = resp3_reply.front();
  return type == '+' || type == ':' || (type == '$' && resp3_reply.size() > 1 && resp3_reply[1] != '-');
}

// The form of this call's reply, never kRank: for who converts when the arguments are gone.
[[nodiscard]] Resp2Form resp2_form(const Command& command, std::span<const std::string_view> args);

// Appends the RESP2 answer for `resp3_reply`, one whole reply to a cacheable command. False, and `out` as it was, if the
// bytes are anything else: cut short, more than one reply, an error, a type that no such command answers (push, attribute,
// verbatim string, big number, RESP2's own nulls), or not of the form. The caller then forwards the call. One pass, no
// recursion and no state per level, so that depth costs nothing; what is the same in both versions is copied in runs; counts
// are held against the bytes that are left, so that a lying one costs nothing either. Allocates only as `out` grows.
[[nodiscard]] bool append_as_resp2(std::string& out, Resp2Form form, std::string_view resp3_reply);

[[nodiscard]] inline bool append_as_resp2(std::string& out, const Command& command, std::span<const std::string_view> args,
                                          std::string_view resp3_reply) {
  return append_as_resp2(out, resp2_form(command, args), resp3_reply);
}

// Of a read whose reply has no order (SMEMBERS, HGETALL, HKEYS, HVALS; by its variant, see append_variant): whether both
// replies have the same elements. False of any other read. A server may tell them in another order without a write: it
// rehashes as it is read.
[[nodiscard]] bool same_elements(std::string_view variant, std::string_view one_reply, std::string_view other_reply);

}  // namespace nearcached::protocol
