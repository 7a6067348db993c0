#include "tiers/coherence/bus_message.hpp"

#include <concepts>

namespace nearcached::tiers::coherence {
namespace {

constexpr std::size_t kHeadBytes = 1 + 1 + 8 + 4 + 8;
constexpr std::size_t kChecksumBytes = 4;

// Fowler, Noll, Vo. Each step is a bijection of the state, so that no change of a single byte goes unnoticed.
std::uint32_t checksum(std::string_view bytes) {
  std::uint32_t sum = 2166136261u;
  for (const char byte : bytes) sum = (sum ^ static_cast<unsigned char>(byte)) * 16777619u;
  return sum;
}

template <std::unsigned_integral Number>
void append_number(std::string& out, Number number) {
  for (std::size_t i = 0; i < sizeof(Number); ++i) out.push_back(static_cast<char>((number >> (8 * i)) & 0xFFu));
}

void append_text(std::string& out, std::string_view text) {
  append_number(out, static_cast<std::uint32_t>(text.size()));
  out.append(text);
}

// Takes from the front of what is left; false when there is not enough.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : rest_(bytes) {}

  template <std::unsigned_integral Number>
  [[nodiscard]] bool number(Number& number) {
    if (rest_.size() < sizeof(Number)) return false;
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < sizeof(Number); ++i) {
      value |= std::uint64_t{static_cast<unsigned char>(rest_[i])} << (8 * i);
    }
    number = static_cast<Number>(value);
    rest_.remove_prefix(sizeof(Number));
    return true;
  }
  [[nodiscard]] bool text(std::string_view& text) {
    std::uint32_t length = 0;
    if (!number(length) || rest_.size() < length) return false;
    text = rest_.substr(0, length);
    rest_.remove_prefix(length);
    return true;
  }
  [[nodiscard]] bool done() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

bool read_keys(Reader& reader, std::vector<std::string_view>& keys) {
  std::uint32_t count = 0;
  if (!reader.number(count) || count == 0 || count > kBusKeysMax) return false;
  keys.resize(count);
  for (std::string_view& key : keys) {
    if (!reader.text(key)) return false;
  }
  return true;
}

bool read_body(Reader& reader, BusMessage& message) {
  switch (message.kind) {
    case BusKind::kInvalidate: return read_keys(reader, message.keys);
    case BusKind::kPrefix:
    case BusKind::kTag:
    case BusKind::kNamespace: return reader.text(message.text);
    case BusKind::kLost: return reader.number(message.lost_epoch) && reader.number(message.last_sequence);
    case BusKind::kHeartbeat:
    case BusKind::kBye:
      message.last_sequence = message.sequence;
      message.sequence = 0;
      return true;
  }
  return false;
}

bool is_numbered(BusKind kind) { return kind != BusKind::kHeartbeat && kind != BusKind::kBye; }

}  // namespace

std::string encode_bus_message(const BusMessage& message) {
  std::string out;
  std::size_t body = message.text.size() + 16;
  for (const std::string_view key : message.keys) body += 4 + key.size();
  out.reserve(kHeadBytes + body + kChecksumBytes);
  append_number(out, kBusVersion);
  append_number(out, static_cast<std::uint8_t>(message.kind));
  append_number(out, message.publisher);
  append_number(out, message.epoch);
  append_number(out, is_numbered(message.kind) ? message.sequence : message.last_sequence);
  switch (message.kind) {
    case BusKind::kInvalidate:
      append_number(out, static_cast<std::uint32_t>(message.keys.size()));
      for (const std::string_view key : message.keys) append_text(out, key);
      break;
    case BusKind::kPrefix:
    case BusKind::kTag:
    case BusKind::kNamespace: append_text(out, message.text); break;
    case BusKind::kLost:
      append_number(out, message.lost_epoch);
      append_number(out, message.last_sequence);
      break;
    case BusKind::kHeartbeat:
    case BusKind::kBye: break;
  }
  append_number(out, checksum(out));
  return out;
}

BusDecoded decode_bus_message(std::string_view payload, BusMessage& message) {
  message.keys.clear();
  message.text = {};
  message.last_sequence = 0;
  message.lost_epoch = 0;
  if (payload.empty()) return BusDecoded::kDamaged;
  if (static_cast<std::uint8_t>(payload.front()) != kBusVersion) return BusDecoded::kOtherVersion;
  if (payload.size() < kHeadBytes + kChecksumBytes) return BusDecoded::kDamaged;
  const std::string_view summed = payload.substr(0, payload.size() - kChecksumBytes);
  std::uint32_t sum = 0;
  if (!Reader(payload.substr(summed.size())).number(sum) || sum != checksum(summed)) return BusDecoded::kDamaged;

  Reader reader(summed.substr(1));
  std::uint8_t kind = 0;
  if (!reader.number(kind) || !reader.number(message.publisher) || !reader.number(message.epoch) ||
      !reader.number(message.sequence)) {
    return BusDecoded::kDamaged;
  }
  message.kind = static_cast<BusKind>(kind);
  const bool named = message.epoch != 0 && (message.sequence != 0 || !is_numbered(message.kind));
  return named && read_body(reader, message) && reader.done() ? BusDecoded::kGood : BusDecoded::kDamaged;
}

}  // namespace nearcached::tiers::coherence
