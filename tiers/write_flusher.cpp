#include "tiers/write_flusher.hpp"

#include <algorithm>
#include <chrono>
#include <utility>

#include "protocol/key_slot.hpp"
#include "protocol/writer.hpp"
#include "tiers/io/clock.hpp"
#include "tiers/write_behind/flush_outcome.hpp"

namespace nearcached::tiers {

using write_behind::FlushOutcome;
using write_behind::Write;
using write_behind::WriteQueue;

namespace {

constexpr std::int64_t kBoardedMaxUs = 5'000'000;  // a stripe that is always being written holds nobody up for ever

std::int64_t unix_ms() {
  using namespace std::chrono;
  return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

}  // namespace

WriteFlusher::WriteFlusher(WriteFlusherOptions options, upstream::Router& router, NearCache& cache, WriteQueue& queue,
                           insight::Counters& counters)
    : options_(std::move(options)), router_(router), cache_(cache), queue_(queue), counters_(counters) {}

void WriteFlusher::tick(std::int64_t now_us) {
  landed_ = false;
  const auto primaries = static_cast<std::uint32_t>(router_.topology()->primaries.size());
  for (std::uint32_t node = options_.worker; node < primaries; node += options_.workers) {
    flights_.clear();
    queue_.take(static_cast<std::uint16_t>(node), now_us, options_.safe_sequence(), flights_);
    for (const WriteQueue::Flight& flight : flights_) boarded_.push_back({flight, l1::hash_key(flight.key), now_us});
  }
  send_boarded(now_us);
}

void WriteFlusher::send_boarded(std::int64_t now_us) {
  std::erase_if(boarded_, [&](const Boarded& boarded) {
    if (cache_.write_under_way(boarded.hash) && now_us - boarded.since_us < kBoardedMaxUs) return false;
    send(boarded, now_us);
    return true;
  });
}

void WriteFlusher::end_turn(bool busy) {
  if (!applied_.empty()) {
    queue_.flushed(applied_, io::boot_us());
    applied_.clear();
  }
  if (landed_ && !busy) {
    tick(io::boot_us());
  } else if (!boarded_.empty()) {
    send_boarded(io::boot_us());
  }
}

upstream::Router::Lane* WriteFlusher::lane_of(std::uint32_t database) {
  const auto found = lanes_.find(database);
  if (found != lanes_.end()) return found->second;
  const upstream::IdentityPtr identity = options_.identity_of(database);
  if (identity == nullptr) return nullptr;
  ++identity->clients;  // in use for as long as this is there
  return lanes_[database] = &router_.attach(identity, protocol::RespVersion::kResp2);
}

void WriteFlusher::encode(const WriteQueue::Flight& flight) {
  bytes_.clear();
  const Write& write = *flight.write;
  if (write.kind == Write::Kind::kDelete || write.expired(unix_ms())) {
    protocol::append_command(bytes_, {"DEL", flight.key});
  } else if (write.expires_at_ms == 0) {
    protocol::append_command(bytes_, {"SET", flight.key, write.value});
  } else {
    protocol::append_command(bytes_, {"SET", flight.key, write.value, "PXAT", std::to_string(write.expires_at_ms)});
  }
}

void WriteFlusher::send(const Boarded& boarded, std::int64_t now_us) {
  const WriteQueue::Flight& flight = boarded.flight;
  upstream::Router::Lane* const lane = lane_of(flight.database);
  if (lane == nullptr) {
    queue_.failed(flight.entry, now_us);
    return;
  }
  std::uint64_t token = sent_.size();
  if (free_.empty()) {
    sent_.emplace_back();
  } else {
    token = free_.back();
    free_.pop_back();
  }
  Sent& sent = sent_[token];
  sent = {flight, boarded.hash, now_us, {}, false, !options_.announce, true};
  cache_.begin_write(sent.hash, counters_);
  encode(flight);
  upstream::RequestMeta meta;
  meta.sink = this;
  meta.token = token;
  meta.slot = router_.topology()->cluster ? protocol::key_slot(flight.key) : std::uint16_t{0};
  meta.write = true;
  meta.announce = options_.announce;
  meta.deadline_us = now_us + options_.timeout_us;
  router_.send(*lane, meta, bytes_, now_us);
}

void WriteFlusher::on_reply(std::uint64_t token, std::string_view bytes, bool last) {
  Sent& sent = sent_[token];
  sent.reply.append(bytes);
  if (!last) return;
  sent.replied = true;
  if (sent.published) end(token, false);
}

void WriteFlusher::on_published(std::uint64_t token, bool told, std::string_view) {
  Sent& sent = sent_[token];
  sent.published = true;
  sent.told = told;
  if (sent.replied) end(token, false);
}

void WriteFlusher::on_failure(std::uint64_t token, std::string_view error, bool) {
  sent_[token].reply = error;
  end(token, true);
}

void WriteFlusher::end(std::uint64_t token, bool failed) {
  // The queue's callbacks may make this send again, and sent_ grow.
  const Sent sent = std::move(sent_[token]);
  sent_[token] = {};
  free_.push_back(token);
  landed_ = true;
  const std::int64_t now_us = io::boot_us();
  cache_.end_write(sent.hash, now_us, counters_);
  counters_.flush_latency.observe(static_cast<std::uint64_t>(std::max<std::int64_t>(0, now_us - sent.sent_us)));
  const FlushOutcome outcome = write_behind::flush_outcome(sent.reply, failed || !sent.told);
  switch (outcome) {
    case FlushOutcome::kApplied: applied_.push_back(sent.flight.entry); break;
    case FlushOutcome::kAgain: queue_.failed(sent.flight.entry, now_us); break;
    case FlushOutcome::kNever: {
      const std::string_view line = std::string_view(sent.reply).substr(1, sent.reply.size() - 3);
      const WriteQueue::Flight& flight = sent.flight;
      if (options_.on_dead_letter(flight, line)) {
        queue_.gave_up(flight.entry);
      } else {
        queue_.failed(flight.entry, now_us);
      }
      break;
    }
  }
}

}  // namespace nearcached::tiers
