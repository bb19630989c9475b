// kvma for C++: handles that free themselves, and statuses that cannot be forgotten. C++17, nothing
// but this file; neither exceptions nor RTTI are used. Link with -lkvma.
//
// A call that is not wrapped here takes `handle()`.

#ifndef KVMA_HPP
#define KVMA_HPP

#include "kvma/core.h"
#include "kvma/linux.h"

#include <type_traits>
#include <utility>

namespace kvma {

// The answer of a call. See `kvma_status`.
class [[nodiscard]] Status {
public:
  constexpr Status(kvma_status code = KVMA_OK) : code_(code) {}

  constexpr bool ok() const { return code_ == KVMA_OK; }
  constexpr kvma_status code() const { return code_; }

  // The errno that the matching POSIX call gives, or 0.
  int32_t error() const { return kvma_errno(code_); }

  // A few English words.
  const char *text() const { return kvma_strerror(code_); }

  // Says that a failure does not matter here.
  void ignore() const {}

  friend constexpr bool operator==(Status a, Status b) { return a.code_ == b.code_; }
  friend constexpr bool operator!=(Status a, Status b) { return a.code_ != b.code_; }

private:
  kvma_status code_;
};

namespace detail {

// Owns a handle of type T, which `free` gives up. A `free` that fails, since the handle is in use,
// leaves it alone: the call that uses it still needs it.
template <class T, kvma_status (*free)(T *)> class Handle {
public:
  Handle() = default;

  // Takes over a handle of the C interface.
  explicit Handle(T *handle) : handle_(handle) {}

  Handle(Handle &&other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Handle(const Handle &) = delete;
  ~Handle() { close().ignore(); }

  Handle &operator=(Handle &&other) noexcept {
    if (this != &other) {
      close().ignore();
      handle_ = std::exchange(other.handle_, nullptr);
    }
    return *this;
  }
  Handle &operator=(const Handle &) = delete;

  explicit operator bool() const { return handle_ != nullptr; }

  // The handle for calls of the C interface. It stays this object's.
  T *handle() const { return handle_; }

  // Gives the handle to the caller, who frees it.
  T *release() { return std::exchange(handle_, nullptr); }

  // Frees the handle now and says how that went. If it fails, the handle is kept.
  Status close() {
    Status status = free(handle_);
    if (status.ok())
      handle_ = nullptr;
    return status;
  }

protected:
  // Puts a new handle in the place of the old one, which is freed.
  void reset(T *handle) { *this = Handle(handle); }

private:
  T *handle_ = nullptr;
};

} // namespace detail

class Vm;

// Several changes of a map with one flush. Make it before taking the map's lock, and let it go, or
// call `finish`, after releasing the lock.
class Update : public detail::Handle<kvma_update, kvma_update_finish> {
public:
  using Handle::Handle;

  // Begins an update with hooks, or none, and this many preallocated nodes.
  static Status create(Update &update, const Vm &vm, const kvma_hooks *hooks = nullptr,
                       size_t nodes = 0);

  Status preallocate(size_t nodes) { return kvma_update_preallocate(handle(), nodes); }
  size_t removed() const { return kvma_update_removed(handle()); }
  Status finish() { return close(); }

  inline Status map(Vm &vm, const kvma_request &request, uint64_t &addr);
  inline Status unmap(Vm &vm, uint64_t start, uint64_t len, uint64_t *bytes = nullptr);
  inline Status protect(Vm &vm, uint64_t start, uint64_t len, uint32_t prot);
  inline Status remap(Vm &vm, uint64_t from, uint64_t len, uint64_t to,
                      uint32_t merge = KVMA_MERGE_BOTH);
};

// The VMAs of one address space. It has no lock, as `kvma_vm` has none.
class Vm : public detail::Handle<kvma_vm, kvma_vm_free> {
public:
  using Handle::Handle;

  // Makes an empty map over the bytes from `first` to `last` in the place of what `vm` holds.
  static Status create(Vm &vm, uint64_t first, uint64_t last, uint64_t page_size,
                       const kvma_allocator *allocator = nullptr,
                       const kvma_data_ops *ops = nullptr) {
    kvma_vm *made = nullptr;
    Status status = kvma_vm_new(&made, first, last, page_size, allocator, ops);
    vm.reset(made);
    return status;
  }

  Status map(const kvma_request &request, uint64_t &addr, const kvma_hooks *hooks = nullptr) {
    return kvma_vm_map(handle(), &request, hooks, &addr);
  }

  Status unmap(uint64_t start, uint64_t len, const kvma_hooks *hooks = nullptr,
               uint64_t *bytes = nullptr) {
    return kvma_vm_unmap(handle(), start, len, hooks, bytes);
  }

  Status clear(const kvma_hooks *hooks = nullptr, uint64_t *bytes = nullptr) {
    return kvma_vm_clear(handle(), hooks, bytes);
  }

  Status protect(uint64_t start, uint64_t len, uint32_t prot, const kvma_hooks *hooks = nullptr) {
    return kvma_vm_protect(handle(), start, len, prot, hooks);
  }

  // Finds the address where `len` bytes would go; changes nothing. With `KVMA_RANDOMISED` in the
  // flags of `search`, it follows from `search.random`.
  Status find_gap(uint64_t len, const kvma_search &search, uint64_t &addr) const {
    return kvma_vm_find_gap(handle(), len, &search, &addr);
  }

  // Moves mappings with their pages. `source` is `KVMA_SOURCE_UNMAP` or `KVMA_SOURCE_KEEP`.
  Status relocate(uint64_t from, uint64_t len, uint64_t to, uint32_t source = KVMA_SOURCE_UNMAP,
                  const kvma_hooks *hooks = nullptr, uint32_t merge = KVMA_MERGE_BOTH) {
    return kvma_vm_relocate(handle(), from, len, to, source, merge, hooks);
  }

  // Moves mappings without their page-table entries.
  Status remap(uint64_t from, uint64_t len, uint64_t to, const kvma_hooks *hooks = nullptr,
               uint32_t merge = KVMA_MERGE_BOTH) {
    return kvma_vm_remap(handle(), from, len, to, nullptr, nullptr, merge, hooks);
  }

  // Moves mappings as `remap` does, and gives each piece the attributes that `attrs` makes of those
  // that it has. It is called several times, and must always answer the same for the same ones.
  template <class Attrs>
  Status remap_with(uint64_t from, uint64_t len, uint64_t to, Attrs &&attrs,
                    const kvma_hooks *hooks = nullptr, uint32_t merge = KVMA_MERGE_BOTH) {
    using Function = std::remove_reference_t<Attrs>;
    return kvma_vm_remap(
        handle(), from, len, to,
        [](void *udata, const kvma_attrs *old) -> kvma_attrs {
          return (*static_cast<Function *>(udata))(*old);
        },
        const_cast<void *>(static_cast<const void *>(&attrs)), merge, hooks);
  }

  // Copies the map in the place of what `child` holds. Its user data is forked.
  Status fork(Vm &child, const kvma_allocator *allocator = nullptr) const {
    kvma_vm *made = nullptr;
    Status status = kvma_vm_fork(handle(), allocator, nullptr, nullptr, &made);
    child.reset(made);
    return status;
  }

  Status find(uint64_t addr, kvma_vma &vma) const { return kvma_vm_find(handle(), addr, &vma); }
  size_t size() const { return kvma_vm_len(handle()); }
  bool empty() const { return kvma_vm_is_empty(handle()); }
  uint64_t mapped_bytes() const { return kvma_vm_mapped_bytes(handle()); }

  // Calls `each` for every VMA that shares a byte with the range, ascending, until it answers
  // false. It may change the map.
  template <class Each>
  void for_each(Each &&each, uint64_t start = 0, uint64_t len = UINT64_MAX) const {
    kvma_walk walk = kvma_walk_over(start, len);
    kvma_vma vma;
    while (kvma_vm_next(handle(), &walk, &vma) && each(static_cast<const kvma_vma &>(vma)))
      continue;
  }
};

inline Status Update::create(Update &update, const Vm &vm, const kvma_hooks *hooks, size_t nodes) {
  kvma_update *made = nullptr;
  Status status = kvma_update_new(&made, vm.handle(), hooks, nodes);
  update.reset(made);
  return status;
}

inline Status Update::map(Vm &vm, const kvma_request &request, uint64_t &addr) {
  return kvma_update_map(handle(), vm.handle(), &request, &addr);
}

inline Status Update::unmap(Vm &vm, uint64_t start, uint64_t len, uint64_t *bytes) {
  return kvma_update_unmap(handle(), vm.handle(), start, len, bytes);
}

inline Status Update::protect(Vm &vm, uint64_t start, uint64_t len, uint32_t prot) {
  return kvma_update_protect(handle(), vm.handle(), start, len, prot);
}

inline Status Update::remap(Vm &vm, uint64_t from, uint64_t len, uint64_t to, uint32_t merge) {
  return kvma_update_remap(handle(), vm.handle(), from, len, to, nullptr, nullptr, merge);
}

class Linux;

// The kernel's side of one or several Linux calls. Make it before taking the lock of the address
// space, and let it go, or call `finish`, after releasing the lock.
class LinuxCall : public detail::Handle<kvma_linux_call, kvma_linux_call_finish> {
public:
  using Handle::Handle;

  static Status create(LinuxCall &call, const Linux &mm, const kvma_kernel *kernel = nullptr,
                       size_t nodes = 0);

  size_t removed() const { return kvma_linux_call_removed(handle()); }
  Status finish() { return close(); }
};

// The address space of a program, as Linux keeps it. System calls answer with 0 or, in `code()`, a
// negative errno.
class Linux : public detail::Handle<kvma_linux, kvma_linux_free> {
public:
  using Handle::Handle;

  // Makes an empty address space in the place of what `mm` holds.
  static Status create(Linux &mm, const kvma_linux_layout &layout,
                       const kvma_allocator *allocator = nullptr) {
    kvma_linux *made = nullptr;
    Status status = kvma_linux_new(&made, &layout, allocator);
    mm.reset(made);
    return status;
  }

  Status mmap(LinuxCall &call, const kvma_linux_mmap_args &args, uint64_t &addr) {
    return kvma_linux_mmap(handle(), call.handle(), &args, &addr);
  }

  Status munmap(LinuxCall &call, uint64_t addr, uint64_t len) {
    return kvma_linux_munmap(handle(), call.handle(), addr, len);
  }

  Status mprotect(LinuxCall &call, uint64_t addr, uint64_t len, uint64_t prot) {
    return kvma_linux_mprotect(handle(), call.handle(), addr, len, prot);
  }

  Status mremap(LinuxCall &call, uint64_t old_addr, uint64_t old_len, uint64_t new_len,
                uint64_t flags, uint64_t new_addr, uint64_t &addr) {
    return kvma_linux_mremap(handle(), call.handle(), old_addr, old_len, new_len, flags, new_addr,
                             &addr);
  }

  Status brk(LinuxCall &call, uint64_t brk, uint64_t &end) {
    return kvma_linux_brk(handle(), call.handle(), brk, &end);
  }

  Status madvise(LinuxCall &call, uint64_t addr, uint64_t len, uint64_t advice) {
    return kvma_linux_madvise(handle(), call.handle(), addr, len, advice);
  }

  // Handles a page fault; `action` is `KVMA_FAULT_MAP` or the like.
  Status fault(LinuxCall &call, const kvma_linux_fault_args &fault, uint64_t &action) {
    return kvma_linux_fault(handle(), call.handle(), &fault, &action);
  }

  // Copies the address space for a child, in the place of what `child` holds.
  Status fork(LinuxCall &call, Linux &child) {
    kvma_linux *made = nullptr;
    Status status = kvma_linux_fork(handle(), call.handle(), &made);
    child.reset(made);
    return status;
  }

  Status find(uint64_t addr, kvma_vma &vma) const {
    return kvma_linux_find(handle(), addr, &vma);
  }

  size_t size() const { return kvma_linux_map_count(handle()); }

  // Calls `each` with the text of `/proc/PID/maps`, part by part, until it answers false.
  template <class Each> Status maps(Each &&each) const {
    using Function = std::remove_reference_t<Each>;
    return kvma_linux_maps(
        handle(),
        [](void *udata, const char *text, size_t len) -> bool {
          return (*static_cast<Function *>(udata))(text, len);
        },
        const_cast<void *>(static_cast<const void *>(&each)));
  }
};

inline Status LinuxCall::create(LinuxCall &call, const Linux &mm, const kvma_kernel *kernel,
                                size_t nodes) {
  kvma_linux_call *made = nullptr;
  Status status = kvma_linux_call_new(&made, mm.handle(), kernel, nodes);
  call.reset(made);
  return status;
}

} // namespace kvma

#endif // KVMA_HPP
