// However a stream of replies is cut, the framer finds the same frames and the same error; what it calls a frame is what
// the tree parses, and what it does not call a frame the tree refuses.
// Input: one byte that chooses the pieces, then the stream.
#include <string>
#include <vector>

#include "protocol/reply_framer.hpp"
#include "protocol/reply_tree.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace {

using nearcached::fuzz::ExactCopy;
using nearcached::fuzz::Pieces;
using nearcached::fuzz::require;
using namespace nearcached::protocol;

struct Frame {
  std::size_t bytes;
  char type;
  bool nested_push;
  bool operator==(const Frame&) const = default;
};

struct Seen {
  std::vector<Frame> frames;
  FrameError error = FrameError::kNone;
  std::size_t tail = 0;  // bytes of a reply that has not ended
  bool operator==(const Seen&) const = default;
};

class Stream {
 public:
  void receive(std::string_view piece) {
    const ExactCopy copy(piece);
    std::string_view rest = copy.view();
    while (!rest.empty() && seen_.error == FrameError::kNone) {
      const ReplyFramer::Step step = framer_.advance(rest);
      require(step.bytes <= rest.size() && (step.bytes > 0 || step.error != FrameError::kNone), "it gets on");
      require(step.complete || step.error != FrameError::kNone || step.bytes == rest.size(), "it takes all there is");
      seen_.error = step.error;
      seen_.tail = step.complete || step.error != FrameError::kNone ? 0 : framer_.frame_bytes();
      if (step.complete) seen_.frames.push_back({framer_.frame_bytes(), framer_.type(), framer_.nested_push()});
      rest.remove_prefix(step.bytes);
    }
  }
  [[nodiscard]] const Seen& seen() const { return seen_; }

 private:
  ReplyFramer framer_;
  Seen seen_;
};

void require_same_nodes(const ReplyTree& left, const ReplyTree& right) {
  require(left.nodes().size() == right.nodes().size(), "same number of nodes");
  for (std::size_t i = 0; i < left.nodes().size(); ++i) {
    const ReplyNode& a = left.nodes()[i];
    const ReplyNode& b = right.nodes()[i];
    require(a.type == b.type && a.children == b.children && a.subtree == b.subtree && a.text == b.text, "same nodes");
  }
}

void check_frame(std::string_view bytes, const Frame& frame) {
  const ExactCopy copy(bytes);
  ReplyTree tree;
  require(tree.parse(copy.view()), "the tree takes a frame");
  require(tree.pushes().empty() != frame.nested_push, "both see nested pushes");
  require(tree.root().raw.front() == frame.type, "both see the same type");
  require(tree.root().subtree == tree.nodes().size(), "the root spans the tree");

  std::string cleaned;
  tree.append_without_pushes(cleaned);
  ReplyTree clean;
  require(clean.parse(cleaned) && clean.pushes().empty(), "without its pushes it is a frame");
  require_same_nodes(tree, clean);
  for (const std::string_view push : tree.pushes()) require(clean.parse(push), "a nested push is a frame");
  require(!clean.parse(copy.view().substr(0, bytes.size() - 1)), "a part of a frame is none");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view stream(reinterpret_cast<const char*>(data) + 1, size - 1);
  Stream whole;
  whole.receive(stream);
  Stream cut;
  for (Pieces pieces(stream, data[0]); !pieces.empty();) cut.receive(pieces.next());
  require(whole.seen() == cut.seen(), "the cut changes nothing");

  for (const Frame& frame : whole.seen().frames) {
    check_frame(stream.substr(0, frame.bytes), frame);
    stream.remove_prefix(frame.bytes);
  }
  ReplyTree tree;
  require(!tree.parse(stream), "what is left is no frame");
  return 0;
}
