// Drop-in for libmmap's addr_space.h, on kvma. C++17. Link with -lkvma, or with -lmmap as before.
//
// Where libmmap's code and its documentation differ, this does what the documentation says; the
// README has the list.
#ifndef LIBMMAP_ADDR_SPACE_H
#define LIBMMAP_ADDR_SPACE_H

#include "../kvma.h"
#include "detail/unwind.h"
#include "range_map.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

namespace mmap {

struct MapInfo {
  int prot;
  int flags;
  int fd;
  // Of the page or region that the information is about: advanced past what was split off before
  // it.
  int64_t offset;
  bool original;

  bool operator==(const MapInfo &other) const {
    return prot == other.prot && flags == other.flags && fd == other.fd && offset == other.offset &&
           original == other.original;
  }
};

// kNoMem: out of memory, and nothing has changed; or protect over a gap, which is ENOMEM in POSIX:
// what is mapped in the range has the new protection.
enum class Error { kOk, kInval, kNoMem };

// Called before the change, with the byte address, the length and what the region was. What it
// throws reaches the caller, and nothing has changed.
using UpdateFn = std::function<void(uintptr_t, size_t, MapInfo)>;

struct AddrSpace {
  AddrSpace() = default;
  AddrSpace(AddrSpace &&) noexcept = default;
  AddrSpace &operator=(AddrSpace &&) noexcept = default;

  AddrSpace(const AddrSpace &other)
      : space_(other.space_ ? kvma_space_copy(other.space_.get()) : nullptr) {
    if (other.space_ && !space_)
      detail::no_memory();
  }

  AddrSpace &operator=(const AddrSpace &other) {
    AddrSpace copy(other);
    space_.swap(copy.space_);
    return *this;
  }

  // False: pagesize is not a power of two, the range wraps, or no memory; then this is as it was.
  bool init(uintptr_t start, size_t len, size_t pagesize) {
    return init(start, len, pagesize, nullptr);
  }

  // Not libmmap's: with the caller's allocator, nullptr for malloc.
  bool init(uintptr_t start, size_t len, size_t pagesize, const kvma_allocator *allocator) {
    std::unique_ptr<kvma_space, Free> fresh(kvma_space_new(start, len, pagesize, allocator));
    if (!fresh)
      return false;
    space_ = std::move(fresh);
    return true;
  }

  void reset() { kvma_space_reset(space_.get()); }

  // Makes map_any place at random: every address that fits is as likely as every other. All
  // placements follow from the seed, which should come from a secure source. reset leaves this as
  // it is; init ends it.
  void enable_aslr(uint64_t seed) { kvma_space_enable_aslr(space_.get(), seed); }

  // At 'hint' if that is not 0 and is free, else at the lowest free range, or at a random one after
  // enable_aslr.
  uintptr_t map_any(uintptr_t hint, size_t len, int prot, int flags, int fd, int64_t offset) {
    kvma_space_info info = made_of(prot, flags, fd, offset);
    return kvma_space_map_any(space_.get(), hint, len, &info);
  }

  // Without a hint.
  uintptr_t map_any(size_t len, int prot, int flags, int fd, int64_t offset) {
    return map_any(0, len, prot, flags, fd, offset);
  }

  uintptr_t map_at(uintptr_t addr, size_t len, int prot, int flags, int fd, int64_t offset,
                   UpdateFn ufn = nullptr) {
    kvma_space_info info = made_of(prot, flags, fd, offset);
    Call call(ufn);
    uintptr_t at = kvma_space_map_at(space_.get(), addr, len, &info, call.fn(), &call);
    call.caught.rethrow();
    return at;
  }

  Error unmap(uintptr_t addr, size_t len, UpdateFn ufn = nullptr) {
    Call call(ufn);
    int32_t status = kvma_space_unmap(space_.get(), addr, len, call.fn(), &call);
    call.caught.rethrow();
    return error(status);
  }

  bool query_page(uintptr_t addr, MapInfo *info) const {
    kvma_space_info found;
    if (!kvma_space_query(space_.get(), addr, &found))
      return false;
    if (info)
      *info = to_info(found);
    return true;
  }

  Error protect(uintptr_t addr, size_t len, int prot, UpdateFn ufn = nullptr) {
    Call call(ufn);
    int32_t status = kvma_space_protect(space_.get(), addr, len, prot, call.fn(), &call);
    call.caught.rethrow();
    return error(status);
  }

  void mark_original() { kvma_space_mark_original(space_.get()); }

  // Brings back what was marked: unmaps the rest, gives original regions their protection again
  // ('ufn' hears of both; info.original says which it is), and maps originals that are gone.
  void unmap_non_original(UpdateFn ufn = nullptr) {
    Call call(ufn);
    kvma_space_unmap_non_original(space_.get(), call.fn(), &call);
    call.caught.rethrow();
  }

private:
  struct Free {
    void operator()(kvma_space *space) const { kvma_space_free(space); }
  };

  // A callback on its way through C.
  struct Call {
    explicit Call(const UpdateFn &ufn) : ufn(ufn) {}

    kvma_space_fn fn() const { return ufn ? &hear : nullptr; }

    static bool hear(size_t start, size_t len, const kvma_space_info *was, void *udata) {
      Call *call = static_cast<Call *>(udata);
      return call->caught.run([&] { call->ufn(start, len, to_info(*was)); });
    }

    const UpdateFn &ufn;
    detail::Caught caught;
  };

  static kvma_space_info made_of(int prot, int flags, int fd, int64_t offset) {
    return kvma_space_info{prot, flags, fd, false, false, offset, 0, 0, 0};
  }

  static MapInfo to_info(const kvma_space_info &info) {
    return MapInfo{info.prot, info.flags, info.fd, info.offset, info.original};
  }

  static Error error(int32_t status) {
    switch (status) {
    case KVMA_SPACE_OK:
      return Error::kOk;
    case KVMA_SPACE_NO_MEMORY:
    case KVMA_SPACE_NOT_MAPPED:
      return Error::kNoMem;
    default:
      return Error::kInval;
    }
  }

  std::unique_ptr<kvma_space, Free> space_;
};

} // namespace mmap

#endif // LIBMMAP_ADDR_SPACE_H
