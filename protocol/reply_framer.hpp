// Finds where a reply ends, in a stream of reply bytes, without building anything.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace nearcached::protocol {

// Framing errors: each one means that the stream is not RESP (or deeper than we follow) and the connection is unusable.
enum class FrameError : std::uint8_t {
  kNone,
  kBadType,    // first byte of an element is none of RESP2/RESP3's
  kBadLength,  // not a canonical decimal number, negative (other than -1 of $ and *), over the bound, or streamed ("$?")
  kTooDeep,    // nesting over kDepthMax
  kBadLine,    // no CR LF where one must be or within the line's bound, or a boolean that is neither t nor f
};

// Incremental: feed it bytes as they come, it says how many of them belong to the current reply and whether that reply
// ended. All of RESP2 and RESP3: simple and bulk strings and errors (`!`), numbers, nulls, doubles, booleans, big numbers,
// verbatim strings, arrays, sets, maps, attributes (`|`, part of the reply they precede), pushes (`>`): at the top level a
// push is a frame of its own; inside an aggregate (redis#8935) it is an extra element that the parent does not count.
//
//   kType -> kNumber -> kNumberLf -> kPayload -> kPayloadCr -> kPayloadLf      $ ! =
//                                 -> kType (the first child)                   * ~ % > |
//                                 -> next element, or the end                  :
//         -> kLine <-> kLineCr                                                 + - ( ,
//         -> kBoolean -> kEmptyCr -> kEmptyLf                                  # _
//
// Every byte is judged when it is seen, so where the input is cut changes neither the frames nor the error. The streamed
// types of the RESP3 specification are refused: no server sends them, and their end is not known from their head. The text
// of `+ - ( ,` is not judged: it ends at the first CR LF, and a lone CR or LF in it (modules) is passed on.
// State is O(depth), no allocation, payload is skipped in O(1) per call. Confined to one thread.
class ReplyFramer {
 public:
  static constexpr int kDepthMax = 64;
  static constexpr std::size_t kLineBytesMax = 64 * 1024;                 // text of + - ( , : no server sends longer ones
  static constexpr std::uint64_t kBulkBytesMax = std::uint64_t{1} << 40;  // nothing is reserved for it: a sanity check
  static constexpr std::uint64_t kElementsMax = std::uint64_t{1} << 30;   // elements, or pairs of % and |

  struct Step {
    std::size_t bytes = 0;  // how many bytes of the input belong to the current reply
    bool complete = false;  // the reply ends with them; the next byte starts another reply
    FrameError error = FrameError::kNone;
  };

  // Consumes at most one reply's worth of `input`. After `complete` the framer is ready for the next reply; after an error
  // it reports that error for ever.
  [[nodiscard]] Step advance(std::string_view input);

  // First byte of the current reply (of the last one, right after `complete`); 0 before its first byte. An attribute in
  // front counts only until the reply it belongs to begins: an attributed push is a '>'.
  [[nodiscard]] char type() const { return type_; }

  // Bytes of the current reply seen so far (the length of the last one, right after `complete`).
  [[nodiscard]] std::size_t frame_bytes() const { return frame_bytes_; }

  // True if the current (last) reply holds a push inside an aggregate: its bytes must be cleaned before they are passed on.
  [[nodiscard]] bool nested_push() const { return nested_push_; }

 private:
  enum class Phase : std::uint8_t {
    kType,
    kNumber,
    kNumberLf,
    kPayload,
    kPayloadCr,
    kPayloadLf,
    kLine,
    kLineCr,
    kBoolean,
    kEmptyCr,
    kEmptyLf,
  };
  struct Level {
    std::uint64_t left;  // elements still to come
    bool counted;        // whether the parent counts this aggregate as one of its elements
  };

  void begin_frame();
  const char* run(const char* at, const char* end);
  const char* take_number(const char* at, const char* end);
  const char* take_payload(const char* at, const char* end);
  const char* take_line(const char* at, const char* end);
  void take_type(char type);
  void take_line_cr_successor();
  void number_ends();
  void bulk_begins();
  void aggregate_begins();
  void element_ends();
  void expect(char got, char wanted, Phase next);
  void fail(FrameError error) { error_ = error; }

  char type_ = 0;
  std::size_t frame_bytes_ = 0;
  bool nested_push_ = false;

  Phase phase_ = Phase::kType;
  FrameError error_ = FrameError::kNone;
  bool complete_ = true;  // between two replies
  char element_ = 0;      // type of the element whose head is being read
  bool negative_ = false;
  std::uint8_t digits_ = 0;
  std::uint64_t number_ = 0;
  std::uint64_t bytes_left_ = 0;  // of the payload, or of what the line may still hold
  int depth_ = 0;
  std::array<Level, kDepthMax> levels_;
};

}  // namespace nearcached::protocol
