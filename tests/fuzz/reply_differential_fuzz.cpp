// Our framer and tree against hiredis 0.14's reader: the same replies, element by element, from the same bytes.
//
// Where the two may differ, and why:
//  1. RESP3. hiredis 0.14 knows "+-:$*" only, so at the first reply that holds any other type it must fail, and we stop.
//  2. Depth. hiredis 0.14 follows 7 levels of arrays below the first and must fail at one more, were it empty or null; we
//     follow 64, and arrays that hold nothing do not count.
//  3. The two bytes behind a bulk's payload. hiredis skips them unseen; we refuse anything but CR LF (kBadLine).
//  4. When an error is told. We fail at the first wrong byte, hiredis once the line is whole: it may still be waiting, but
//     must not have returned a reply. The same goes for lengths over our bounds, which hiredis would go on to receive.
#include <hiredis/read.h>

#include <memory>
#include <string>
#include <vector>

#include "protocol/reply_framer.hpp"
#include "protocol/reply_tree.hpp"
#include "tests/fuzz/fuzzing.hpp"

namespace {

using nearcached::fuzz::require;
using namespace nearcached::protocol;

constexpr int kHiredisArraysMax = 8;  // one within another

// What hiredis builds, as a flat list in document order: nothing is allocated for an announced number of elements.
struct Element {
  int type = 0;
  std::string text;
  long long number = 0;  // value of an integer, children of an array
};
using Elements = std::vector<Element>;

void* add(const redisReadTask* task, Element element) {
  auto* const elements = static_cast<Elements*>(task->privdata);
  elements->push_back(std::move(element));
  return elements;  // an object that is not null; hiredis only hands it back
}

void* create_string(const redisReadTask* task, char* text, std::size_t size) {
  return add(task, {task->type, std::string(text, size), 0});
}
void* create_array(const redisReadTask* task, int elements) { return add(task, {task->type, {}, elements}); }
void* create_integer(const redisReadTask* task, long long value) { return add(task, {task->type, {}, value}); }
void* create_nil(const redisReadTask* task) { return add(task, {REDIS_REPLY_NIL, {}, 0}); }
void free_nothing(void*) {}

redisReplyObjectFunctions builders = {create_string, create_array, create_integer, create_nil, free_nothing};

// hiredis's type of a node, 0 for what it does not know.
int hiredis_type(const ReplyNode& node) {
  switch (node.type) {
    case ReplyType::kSimpleString: return REDIS_REPLY_STATUS;
    case ReplyType::kError: return REDIS_REPLY_ERROR;
    case ReplyType::kInteger: return REDIS_REPLY_INTEGER;
    case ReplyType::kBulkString: return REDIS_REPLY_STRING;
    case ReplyType::kNull: return node.raw.front() == '_' ? 0 : REDIS_REPLY_NIL;
    case ReplyType::kArray: return REDIS_REPLY_ARRAY;
    default: return 0;
  }
}

// How many arrays stand one within another, from this node down; empty and null ones too.
int nested_arrays(const ReplyTree& tree, std::size_t at) {
  const ReplyNode& node = tree.nodes()[at];
  int deepest = node.raw.front() == '*' ? 1 : 0;
  std::size_t child = at + 1;
  for (std::uint32_t i = 0; i < node.children; ++i, child += tree.nodes()[child].subtree) {
    deepest = std::max(deepest, 1 + nested_arrays(tree, child));
  }
  return deepest;
}

// True if hiredis 0.14 can know all of the frame.
bool within_hiredis(std::string_view frame, const ReplyTree& tree) {
  // Attributes and nested pushes leave no node: the tree then does not account for every byte of the frame.
  std::size_t accounted = 0;
  for (const ReplyNode& node : tree.nodes()) {
    if (hiredis_type(node) == 0) return false;
    accounted += node.children > 0 ? node.raw.find('\n') + 1 : node.raw.size();
  }
  return accounted == frame.size() && nested_arrays(tree, 0) <= kHiredisArraysMax;
}

void compare(const ReplyTree& tree, const Elements& elements) {
  require(tree.nodes().size() == elements.size(), "as many elements");
  for (std::size_t i = 0; i < elements.size(); ++i) {
    const ReplyNode& ours = tree.nodes()[i];
    const Element& theirs = elements[i];
    require(hiredis_type(ours) == theirs.type, "same type");
    if (theirs.type == REDIS_REPLY_INTEGER) {
      require(ours.integer(~theirs.number) == theirs.number, "same integer");
    } else {
      require(ours.text == theirs.text, "same text");
      require(static_cast<long long>(ours.children) == theirs.number, "as many children");
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view stream(reinterpret_cast<const char*>(data), size);
  const std::unique_ptr<redisReader, void (*)(redisReader*)> reader(redisReaderCreateWithFunctions(&builders),
                                                                    redisReaderFree);
  Elements elements;
  reader->privdata = &elements;
  require(redisReaderFeed(reader.get(), stream.data(), stream.size()) == REDIS_OK, "hiredis takes the bytes");

  ReplyFramer framer;
  while (!stream.empty()) {
    elements.clear();
    void* reply = nullptr;
    const int status = redisReaderGetReply(reader.get(), &reply);
    const bool replied = status == REDIS_OK && reply != nullptr;
    const ReplyFramer::Step step = framer.advance(stream);
    if (!step.complete) {
      require(!replied || step.error == FrameError::kBadLine, "hiredis has no reply where we have none");
      return 0;
    }
    const std::string_view frame = stream.substr(0, step.bytes);
    ReplyTree tree;
    require(tree.parse(frame), "the tree takes a frame");
    if (!within_hiredis(frame, tree)) {
      require(status == REDIS_ERR, "hiredis fails at what it does not know");
      return 0;
    }
    require(replied, "hiredis has a reply where we have one");
    compare(tree, elements);
    stream.remove_prefix(step.bytes);
  }
  return 0;
}
