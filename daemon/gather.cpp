#include "daemon/gather.hpp"

#include <charconv>
#include <random>
#include <utility>

namespace nearcached::daemon {

using protocol::Merge;
using protocol::ReplyType;

namespace {

std::minstd_rand& random_source() {
  thread_local std::minstd_rand source(std::random_device{}());
  return source;
}

}  // namespace

Gather::Gather(Merge merge, protocol::RespVersion version, std::size_t parts, std::size_t bytes_max)
    : merge_(merge),
      version_(version),
      bytes_max_(bytes_max),
      replies_(parts),
      places_(merge == Merge::kByKey ? parts : 0),
      left_(parts) {}

Gather::Gather(protocol::RespVersion version, std::size_t parts, std::size_t bytes_max, Edit edit)
    : merge_(Merge::kNone),
      version_(version),
      edit_(std::move(edit)),
      bytes_max_(bytes_max),
      replies_(parts),
      left_(parts) {}

void Gather::set_places(std::size_t part, std::vector<std::uint32_t> places) { places_[part] = std::move(places); }

// Nothing is kept of what is more than the client may be sent.
void Gather::hold(std::size_t bytes) {
  bytes_ += bytes;
  if (bytes_ <= bytes_max_) return;
  too_large_ = true;
  bytes_ = 0;
  for (std::string& reply : replies_) std::string().swap(reply);
  for (std::string& element : elements_) std::string().swap(element);
  std::string().swap(joined_);
  std::string().swap(first_);
  seen_.clear();
  error_ = "-ERR nearcached: the reply is larger than limits.output_bytes\r\n";
}

bool Gather::add(std::size_t part, std::string_view bytes, bool last) {
  if (!too_large_) hold(bytes.size());
  if (too_large_) return last && --left_ == 0;
  replies_[part].append(bytes);
  return last && complete(part);
}

bool Gather::fail(std::size_t part, std::string_view error) {
  if (too_large_) return --left_ == 0;
  replies_[part].clear();
  protocol::append_error(replies_[part], error);
  return complete(part);
}

bool Gather::put(std::size_t place, std::string_view element) {
  if (!too_large_) hold(element.size());
  if (!too_large_) elements_[place].assign(element);
  return --left_ == 0;
}

bool Gather::complete(std::size_t part) {
  std::string& frame = replies_[part];
  const bool error = frame.front() == '-' || frame.front() == '!';
  // A key of another type is nil to MGET, and an error only to the GET that asked for it here.
  const bool wrong_type = merge_ == Merge::kByKey && frame.starts_with("-WRONGTYPE");
  if (error && !wrong_type) {
    if (error_.empty()) error_ = std::move(frame);
  } else if (merge_ == Merge::kByKey) {
    merge_by_key(part);
  } else if (merge_ == Merge::kSum && tree_.parse(frame)) {
    sum_ += tree_.root().integer();
  } else if (edit_) {
    const bool text = part != 0 && tree_.parse(frame);
    if (text) others_.emplace_back(text_node().text);
    if (part == 0) first_ = std::move(frame);
  } else if (merge_ == Merge::kLogicalAnd || merge_ == Merge::kConcatenate || merge_ == Merge::kUnion) {
    merge_array(frame);
  } else if (merge_ == Merge::kSumPairs) {
    merge_pairs(frame);
  } else if (merge_ == Merge::kRandom) {
    const bool null = frame.starts_with("$-1") || frame.starts_with("_");
    if (!null) ++candidates_;
    // Each of the candidates with the same chance, without knowing how many are to come.
    const bool chosen = !null && std::uniform_int_distribution<std::size_t>(1, candidates_)(random_source()) == 1;
    if (chosen || first_.empty()) first_ = std::move(frame);
  } else if (first_.empty()) {
    first_ = std::move(frame);
  }
  frame = std::string();
  return --left_ == 0;
}

void Gather::merge_array(std::string_view frame) {
  if (frame.front() == '~') aggregate_ = '~';
  if (merge_ == Merge::kConcatenate && (frame.front() == '*' || frame.front() == '~')) {
    // There may be millions: they are passed on unseen.
    const std::size_t header = frame.find("\r\n") + 2;
    std::uint32_t elements = 0;
    std::from_chars(frame.data() + 1, frame.data() + header, elements);
    joined_.append(frame.substr(header));
    joined_elements_ += elements;
    return;
  }
  if (!tree_.parse(frame)) return;
  const auto& nodes = tree_.nodes();
  std::size_t at = 1;
  if (merge_ == Merge::kLogicalAnd) numbers_.resize(tree_.root().children, 1);
  for (std::uint32_t i = 0; i < tree_.root().children; ++i, at += nodes[at].subtree) {
    if (merge_ == Merge::kLogicalAnd) {
      numbers_[i] = numbers_[i] != 0 && nodes[at].integer() != 0 ? 1 : 0;
    } else if (merge_ == Merge::kConcatenate || seen_.emplace(nodes[at].raw).second) {
      joined_.append(nodes[at].raw);
      ++joined_elements_;
    }
  }
}

void Gather::merge_pairs(std::string_view frame) {
  if (!tree_.parse(frame)) return;
  const std::size_t children = tree_.root().children;
  numbers_.resize(children / 2);
  for (std::size_t i = 0; i < children / 2; ++i) numbers_[i] += tree_.nodes()[2 + 2 * i].integer();
  if (first_.empty()) first_ = frame;
}

void Gather::merge_by_key(std::size_t part) {
  const std::vector<std::uint32_t>& places = places_[part];
  const std::string& frame = replies_[part];
  const auto set = [&](std::uint32_t place, std::string_view element, ReplyType type) {
    elements_[place].clear();
    if (type == ReplyType::kNull || type == ReplyType::kError) {
      protocol::append_null(elements_[place], version_);
    } else {
      elements_[place].assign(element);
    }
  };
  if (!tree_.parse(frame)) return;
  if (tree_.root().type != ReplyType::kArray) {
    set(places.front(), frame, tree_.root().type);
    return;
  }
  std::size_t at = 1;
  for (std::size_t i = 0; i < places.size() && i < tree_.root().children; ++i, at += tree_.nodes()[at].subtree) {
    set(places[i], tree_.nodes()[at].raw, tree_.nodes()[at].type);
  }
}

// Of the reply that was parsed last.
const protocol::ReplyNode& Gather::text_node() const {
  const bool array = tree_.root().type == ReplyType::kArray && tree_.root().children > 0;
  return tree_.nodes()[array ? 1 : 0];
}

std::string Gather::edited() {
  const protocol::ReplyNode& node = text_node();
  if (node.type != ReplyType::kBulkString && node.type != ReplyType::kVerbatim) return std::move(first_);
  std::string text(node.text);
  edit_(text, others_);
  std::string out(first_, 0, static_cast<std::size_t>(node.raw.data() - first_.data()));
  const bool verbatim = node.type == ReplyType::kVerbatim;
  if (verbatim) text.insert(0, "txt:");
  protocol::append_header(out, verbatim ? '=' : '$', static_cast<std::int64_t>(text.size()));
  out.append(text).append("\r\n");
  const std::size_t behind = static_cast<std::size_t>(node.raw.data() - first_.data()) + node.raw.size();
  out.append(first_, behind);
  return out;
}

std::string Gather::reply() {
  if (!error_.empty()) return std::move(error_);
  std::string out;
  switch (merge_) {
    case Merge::kSum: protocol::append_integer(out, sum_); break;
    case Merge::kByKey:
      out.reserve(bytes_ + elements_.size() + 16);
      protocol::append_header(out, '*', static_cast<std::int64_t>(elements_.size()));
      for (const std::string& element : elements_) out.append(element);
      break;
    case Merge::kLogicalAnd:
      protocol::append_header(out, '*', static_cast<std::int64_t>(numbers_.size()));
      for (const std::int64_t number : numbers_) protocol::append_integer(out, number);
      break;
    case Merge::kSumPairs:
      if (!tree_.parse(first_)) break;
      protocol::append_header(out, '*', static_cast<std::int64_t>(2 * numbers_.size()));
      for (std::size_t i = 0; i < numbers_.size(); ++i) {
        out.append(tree_.nodes()[1 + 2 * i].raw);
        protocol::append_integer(out, numbers_[i]);
      }
      break;
    case Merge::kConcatenate:
    case Merge::kUnion:
      protocol::append_header(out, aggregate_, static_cast<std::int64_t>(joined_elements_));
      out.append(joined_);
      break;
    default: out = edit_ && tree_.parse(first_) ? edited() : std::move(first_);
  }
  return out;
}

}  // namespace nearcached::daemon
