// Finds where a reply ends, in a stream of reply bytes, without building anything.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nearcached::protocol {

// Framing errors: each one means that the stream is not RESP (or deeper than we follow) and the connection is unusable.
enum class FrameError : std::uint8_t {
  kNone,
  kBadType,    // first byte of an element is none of RESP2/RESP3's
  kBadLength,  // not a decimal number, negative (other than -1 of $ and *), or over the bound
  kTooDeep,    // nesting over kDepthMax
  kBadLine,    // a line without CR LF within its bound, or a bulk not followed by CR LF
};

// Incremental: feed it bytes as they come, it says how many of them belong to the current reply and whether that reply
// ended. All of RESP2 and RESP3: simple and bulk strings and errors (`!`), numbers, nulls, doubles, booleans, big numbers,
// verbatim strings, arrays, sets, maps, attributes (`|`, part of the reply they precede), pushes (`>`): at the top level a
// push is a frame of its own; inside an aggregate (redis#8935) it is an extra element that the parent does not count.
// State is O(depth), no allocation. Confined to one thread.
class ReplyFramer {
 public:
  static constexpr int kDepthMax = 64;

  struct Step {
    std::size_t bytes = 0;   // how many bytes of the input belong to the current reply
    bool complete = false;   // the reply ends with them; the next byte starts another reply
    FrameError error = FrameError::kNone;
  };

  // Consumes at most one reply's worth of `input`. After `complete` the framer is ready for the next reply.
  [[nodiscard]] Step advance(std::string_view input);

  // First byte of the current reply (of the last one, right after `complete`); 0 before its first byte.
  [[nodiscard]] char type() const { return type_; }

  // Bytes of the current reply seen so far (the length of the last one, right after `complete`).
  [[nodiscard]] std::size_t frame_bytes() const { return frame_bytes_; }

  // True if the current (last) reply holds a push inside an aggregate: its bytes must be cleaned before they are passed on.
  [[nodiscard]] bool nested_push() const { return nested_push_; }

 private:
  char type_ = 0;
  std::size_t frame_bytes_ = 0;
  bool nested_push_ = false;
};

}  // namespace nearcached::protocol
