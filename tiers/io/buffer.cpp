#include "tiers/io/buffer.hpp"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

namespace nearcached::tiers::io {

BufferPool::~BufferPool() {
  for (char* block : free_) std::free(block);
  for (const Spare& spare : spares_) std::free(spare.block);
}

char* BufferPool::take(std::size_t& bytes) {
  if (bytes <= kChunkBytes) {
    bytes = kChunkBytes;
    if (!free_.empty()) {
      char* block = free_.back();
      free_.pop_back();
      bytes_out_ += bytes;
      return block;
    }
  }
  char* block = take_spare(bytes);
  if (block == nullptr) block = static_cast<char*>(std::malloc(bytes));
  if (block == nullptr) throw std::bad_alloc();
  bytes_out_ += bytes;
  return block;
}

char* BufferPool::take_spare(std::size_t& bytes) noexcept {
  auto best = spares_.end();
  for (auto spare = spares_.begin(); spare != spares_.end(); ++spare) {
    if (spare->bytes >= bytes && spare->bytes / 2 <= bytes && (best == spares_.end() || spare->bytes < best->bytes))
      best = spare;
  }
  if (best == spares_.end()) return nullptr;
  spares_used_ = true;
  char* const block = best->block;
  bytes = best->bytes;
  spare_bytes_ -= bytes;
  spares_.erase(best);
  return block;
}

void BufferPool::trim() noexcept {
  if (!std::exchange(spares_used_, false)) drop_spares();
}

void BufferPool::drop_spares() noexcept {
  for (const Spare& spare : spares_) std::free(spare.block);
  spares_.clear();
  spare_bytes_ = 0;
}

void BufferPool::keep_spare(char* block, std::size_t bytes) {
  spares_.reserve(kSparesMax);
  while (spares_.size() == kSparesMax || spare_bytes_ + bytes > kSpareBytesMax) {
    spare_bytes_ -= spares_.front().bytes;
    std::free(spares_.front().block);
    spares_.erase(spares_.begin());
  }
  spares_.push_back({block, bytes});
  spare_bytes_ += bytes;
}

void BufferPool::give(char* block, std::size_t bytes) noexcept {
  bytes_out_ -= bytes;
  if (bytes == kChunkBytes && free_.size() < kFreeMax) {
    if (free_.capacity() < kFreeMax) free_.reserve(kFreeMax);
    free_.push_back(block);
    return;
  }
  if (bytes > kChunkBytes && bytes <= kSpareBytesMax) {
    keep_spare(block, bytes);
    return;
  }
  std::free(block);
}

Buffer::Buffer(Buffer&& other) noexcept
    : pool_(other.pool_),
      block_(std::exchange(other.block_, nullptr)),
      capacity_(std::exchange(other.capacity_, 0)),
      begin_(std::exchange(other.begin_, 0)),
      end_(std::exchange(other.end_, 0)) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this != &other) {
    release();
    pool_ = other.pool_;
    block_ = std::exchange(other.block_, nullptr);
    capacity_ = std::exchange(other.capacity_, 0);
    begin_ = std::exchange(other.begin_, 0);
    end_ = std::exchange(other.end_, 0);
  }
  return *this;
}

void Buffer::consume(std::size_t n) {
  begin_ += std::min(n, size());
  if (begin_ == end_) release();
}

void Buffer::grow(std::size_t n) {
  const std::size_t used = size();
  // What was consumed is reused only when it is at least half of the block: moving stays amortised constant per byte.
  if (begin_ >= capacity_ / 2 && capacity_ - used >= n && block_ != nullptr) {
    std::memmove(block_, block_ + begin_, used);
  } else {
    std::size_t bytes = std::max(used + n, capacity_ * 2);
    char* block = pool_->take(bytes);
    if (used != 0) std::memcpy(block, block_ + begin_, used);
    if (block_ != nullptr) pool_->give(block_, capacity_);
    block_ = block;
    capacity_ = bytes;
  }
  begin_ = 0;
  end_ = used;
}

void Buffer::release() noexcept {
  if (block_ != nullptr) pool_->give(block_, capacity_);
  block_ = nullptr;
  capacity_ = begin_ = end_ = 0;
}

}  // namespace nearcached::tiers::io
