// Errors of the upstream that are not for the client, but say what to do with the request.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

#include "tiers/upstream/topology.hpp"

namespace nearcached::tiers::upstream {

enum class RedirectKind : std::uint8_t {
  kMoved,  // the slot's owner is `target`: send it there, and learn the topology anew
  kAsk,    // this once `target`, behind ASKING
  kWait,   // TRYAGAIN, CLUSTERDOWN, LOADING, MASTERDOWN, READONLY (no primary any more): the same request may succeed in a
           // moment; it was not executed
};

struct Redirect {
  RedirectKind kind = RedirectKind::kWait;
  Endpoint target;  // of kMoved and kAsk
};

inline constexpr std::uint32_t kAnySlot = 0xffffffff;

// `line` is an error reply without '-' and CR LF. Only the server's own words count, and MOVED and ASK only with the
// request's own slot (any, if it has none): a script may return errors that begin alike, after it has written. An empty host
// in MOVED or ASK means the one that was asked, `asked`. Source:
// https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ (redirection).
[[nodiscard]] std::optional<Redirect> parse_redirect(std::string_view line, const Endpoint& asked,
                                                     std::uint32_t slot = kAnySlot);

}  // namespace nearcached::tiers::upstream
