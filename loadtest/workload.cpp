#include "loadtest/workload.hpp"

#include <numeric>

namespace nearcached::loadtest {

namespace {

constexpr std::size_t kKeyDigits = 12;

std::string bulk(std::string_view text) { return "$" + std::to_string(text.size()) + "\r\n" + std::string(text) + "\r\n"; }

std::string key_head(const std::string& prefix) {
  return "$" + std::to_string(prefix.size() + kKeyDigits) + "\r\n" + prefix;
}

std::string printable_noise(std::size_t bytes) {
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  Random random(0x6e656172);
  std::string text(bytes, '\0');
  for (char& c : text) {
    c = kAlphabet[random.below(kAlphabet.size())];
  }
  return text;
}

}  // namespace

RequestWriter::RequestWriter(const RequestShape& shape)
    : string_key_head_(key_head(shape.prefix)),
      hash_key_head_(key_head(shape.prefix + "h:")),
      counter_key_head_(key_head(shape.prefix + "c:")),
      value_(bulk(printable_noise(shape.value_bytes))),
      mget_head_("*" + std::to_string(shape.mget_keys + 1) + "\r\n$4\r\nMGET\r\n") {}

void RequestWriter::append_key(std::string& out, std::string_view head, std::uint64_t key_index) const {
  char tail[kKeyDigits + 2];
  for (std::size_t i = kKeyDigits; i-- > 0; key_index /= 10) {
    tail[i] = static_cast<char>('0' + key_index % 10);
  }
  tail[kKeyDigits] = '\r';
  tail[kKeyDigits + 1] = '\n';
  out.append(head).append(tail, sizeof tail);
}

void RequestWriter::append(std::string& out, Operation operation, std::uint64_t key_index) const {
  switch (operation) {
    case Operation::kGet: out.append("*2\r\n$3\r\nGET\r\n"); return append_key(out, string_key_head_, key_index);
    case Operation::kSet:
      out.append("*3\r\n$3\r\nSET\r\n");
      append_key(out, string_key_head_, key_index);
      out.append(value_);
      return;
    case Operation::kIncr: out.append("*2\r\n$4\r\nINCR\r\n"); return append_key(out, counter_key_head_, key_index);
    case Operation::kHget:
      out.append("*3\r\n$4\r\nHGET\r\n");
      append_key(out, hash_key_head_, key_index);
      out.append("$1\r\nf\r\n");
      return;
    case Operation::kHset:
      out.append("*4\r\n$4\r\nHSET\r\n");
      append_key(out, hash_key_head_, key_index);
      out.append("$1\r\nf\r\n").append(value_);
      return;
    case Operation::kMget: begin_mget(out); return append_mget_key(out, key_index);
  }
}

void RequestWriter::begin_mget(std::string& out) const { out.append(mget_head_); }

void RequestWriter::append_mget_key(std::string& out, std::uint64_t key_index) const {
  append_key(out, string_key_head_, key_index);
}

MixedRequests::MixedRequests(const RequestShape& shape, const Mix& mix, const KeyDistribution& keys, std::uint64_t requests,
                             std::uint64_t seed)
    : writer_(shape), keys_(keys), mget_keys_(shape.mget_keys), left_(requests), endless_(requests == 0), random_(seed) {
  const double total = std::accumulate(mix.begin(), mix.end(), 0.0);
  double sum = 0;
  for (std::size_t i = 0; i < kOperations; ++i) {
    sum += mix[i];
    thresholds_[i] = sum / total;
  }
}

Operation MixedRequests::next_operation() {
  const double drawn = random_.real();
  std::size_t i = 0;
  while (i + 1 < kOperations && drawn >= thresholds_[i]) {
    ++i;
  }
  return static_cast<Operation>(i);
}

bool MixedRequests::append(std::string& out) {
  if (!endless_ && left_ == 0) {
    return false;
  }
  --left_;
  const Operation operation = next_operation();
  if (operation != Operation::kMget) {
    writer_.append(out, operation, keys_.next(random_));
    return true;
  }
  writer_.begin_mget(out);
  for (std::size_t i = 0; i < mget_keys_; ++i) {
    writer_.append_mget_key(out, keys_.next(random_));
  }
  return true;
}

bool EveryKeyOnce::append(std::string& out) {
  if (next_ == keys_) {
    return false;
  }
  writer_.append(out, operation_, next_++);
  return true;
}

}  // namespace nearcached::loadtest
