// Byte buffers of connections, from a pool that every worker has for itself.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace nearcached::tiers::io {

// Memory of one worker's buffers: chunks of kChunkBytes are kept for reuse (at most kFreeMax of them), and of larger blocks
// those given back last, kSpareBytesMax together and only while some are taken: a megabyte that the allocator takes anew
// costs a page fault and the kernel's zeroing per 4 KB, several times what the copy costs. Counts every byte handed out: the
// buffer budget of the process is the sum over its pools. Confined to the worker's thread.
class BufferPool {
 public:
  static constexpr std::size_t kChunkBytes = 16 * 1024;
  static constexpr std::size_t kFreeMax = 64;
  static constexpr std::size_t kSparesMax = 32;
  static constexpr std::size_t kSpareBytesMax = std::size_t{16} << 20;

  BufferPool() = default;
  ~BufferPool();
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  // At least `bytes`; `bytes` is set to what was given.
  [[nodiscard]] char* take(std::size_t& bytes);
  void give(char* block, std::size_t bytes) noexcept;
  // Now and then: frees the spares if none was taken since the last call.
  void trim() noexcept;
  // All of them: memory is short.
  void drop_spares() noexcept;
  [[nodiscard]] std::size_t bytes_out() const { return bytes_out_; }
  // Kept beyond the chunks.
  [[nodiscard]] std::size_t spare_bytes() const { return spare_bytes_; }

 private:
  struct Spare {
    char* block;
    std::size_t bytes;
  };
  // The smallest of at most twice the size, null if there is none.
  [[nodiscard]] char* take_spare(std::size_t& bytes) noexcept;
  void keep_spare(char* block, std::size_t bytes);

  std::vector<char*> free_;
  std::vector<Spare> spares_;  // the oldest first
  std::size_t spare_bytes_ = 0;
  bool spares_used_ = false;  // since the last trim()
  std::size_t bytes_out_ = 0;
};

// A byte queue in one contiguous block: appended at the end, consumed at the front. Holds no memory while it is empty, so an
// idle connection costs nothing here; growth doubles, consuming moves bytes only when the block would have to grow.
// Views are valid until the next append, prepare or consume.
class Buffer {
 public:
  explicit Buffer(BufferPool& pool) : pool_(&pool) {}
  ~Buffer() { release(); }
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  [[nodiscard]] bool empty() const { return begin_ == end_; }
  [[nodiscard]] std::size_t size() const { return end_ - begin_; }
  [[nodiscard]] std::string_view view() const { return {block_ + begin_, end_ - begin_}; }

  void append(const char* bytes, std::size_t n) {
    if (n == 0) return;  // an empty view has no address to copy from
    char* to = prepare(n);
    __builtin_memcpy(to, bytes, n);
    end_ += n;
  }
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }

  // Room for `n` more bytes; commit() says how many were written.
  [[nodiscard]] char* prepare(std::size_t n) {
    if (capacity_ - end_ < n) grow(n);
    return block_ + end_;
  }
  void commit(std::size_t n) { end_ += n; }
  [[nodiscard]] std::size_t room() const { return capacity_ - end_; }

  void consume(std::size_t n);
  void clear() { consume(size()); }

 private:
  void grow(std::size_t n);
  void release() noexcept;

  BufferPool* pool_;
  char* block_ = nullptr;
  std::size_t capacity_ = 0;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace nearcached::tiers::io
