// RangeMap on kvma's map: keys are addresses of pages of one byte, values hang on the VMAs.
#ifndef LIBMMAP_DETAIL_ENGINE_MAP_H
#define LIBMMAP_DETAIL_ENGINE_MAP_H

#include "../../kvma.h"
#include "entry.h"
#include "unwind.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

namespace mmap {
namespace detail {

template <class K, class V> class EngineMap {
public:
  EngineMap() = default;
  EngineMap(EngineMap &&) noexcept = default;
  EngineMap &operator=(EngineMap &&) noexcept = default;

  EngineMap(const EngineMap &other) {
    kvma_walk walk = all();
    kvma_vma vma;
    while (other.next(walk, vma))
      put(vma, KVMA_MERGE_NEVER, std::make_unique<V>(value(vma)));
  }

  EngineMap &operator=(const EngineMap &other) {
    EngineMap copy(other);
    state_.swap(copy.state_);
    return *this;
  }

  bool empty() const { return size() == 0; }
  size_t size() const { return kvma_vm_len(vm()); }
  void clear() { state_.reset(); }

  std::optional<Entry<K, V>> find(K key) const {
    kvma_vma vma;
    if (kvma_vm_find(vm(), address(key), &vma) != KVMA_OK)
      return std::nullopt;
    return entry(vma);
  }

  void insert(K start, K end, V val) {
    if (!(start < end))
      return;
    kvma_vma where{};
    where.range = range(start, end);
    auto fresh = std::make_unique<V>(std::move(val));
    if (state_)
      state_->copy_for_splits(where.range);
    put(where, KVMA_MERGE_BOTH, std::move(fresh));
  }

  void remove(K start, K end) {
    if (!(start < end) || !state_)
      return;
    kvma_range gone = range(start, end);
    state_->copy_for_splits(gone);
    state_->done(kvma_vm_unmap(vm(), gone.start, gone.len, nullptr, nullptr));
  }

  bool overlaps(K start, K end) const {
    if (!(start < end))
      return false;
    kvma_walk walk = over(start, end);
    kvma_vma vma;
    return next(walk, vma);
  }

  std::vector<Entry<K, V>> get_overlapping(K start, K end) const {
    std::vector<Entry<K, V>> result;
    if (!(start < end))
      return result;
    kvma_walk walk = over(start, end);
    kvma_vma vma;
    while (next(walk, vma))
      result.push_back(entry(vma));
    return result;
  }

  std::vector<std::pair<K, K>> get_gaps(K start, K end) const {
    std::vector<std::pair<K, K>> result;
    if (!(start < end))
      return result;
    if (!state_) {
      result.push_back({start, end});
      return result;
    }
    kvma_walk walk = over(start, end);
    kvma_range gap;
    while (kvma_vm_next_gap(vm(), &walk, &gap))
      result.push_back({key(gap.start), key(gap.last + 1)});
    return result;
  }

  void update_all(std::function<void(V &)> fn) {
    kvma_walk walk = all();
    kvma_vma vma;
    while (next(walk, vma))
      fn(value(vma));
  }

private:
  // Keys of any signedness in their order, as addresses. The last address is never a VMA's: the end
  // of a range is a key, too.
  static constexpr uint64_t kSignBit = uint64_t{1} << 63;

  template <class T, bool = std::is_enum_v<T>> struct Integer {
    using type = T;
  };
  template <class T> struct Integer<T, true> {
    using type = std::underlying_type_t<T>;
  };
  using Int = typename Integer<K>::type;

  static uint64_t address(K key) {
    Int number = static_cast<Int>(key);
    if constexpr (std::is_signed_v<Int>)
      return static_cast<uint64_t>(static_cast<int64_t>(number)) ^ kSignBit;
    else
      return static_cast<uint64_t>(number);
  }

  static K key(uint64_t address) {
    if constexpr (std::is_signed_v<Int>)
      return static_cast<K>(static_cast<Int>(static_cast<int64_t>(address ^ kSignBit)));
    else
      return static_cast<K>(static_cast<Int>(address));
  }

  static kvma_range range(K start, K end) {
    uint64_t first = address(start), behind = address(end);
    return kvma_range{first, behind - 1, behind - first};
  }

  static kvma_walk over(K start, K end) {
    kvma_range all = range(start, end);
    return kvma_walk_over(all.start, all.len);
  }

  static kvma_walk all() { return kvma_walk_over(0, UINT64_MAX); }

  static V &value(const kvma_vma &vma) { return *static_cast<V *>(vma.data); }

  static Entry<K, V> entry(const kvma_vma &vma) {
    return Entry<K, V>{key(vma.range.start), key(vma.range.last + 1), value(vma)};
  }

  bool next(kvma_walk &walk, kvma_vma &vma) const { return kvma_vm_next(vm(), &walk, &vma); }

  // Made when there is something to keep.
  struct State {
    State() {
      ops.size = sizeof ops;
      ops.split = [](void *udata, void *, const kvma_range *, uint64_t) -> void * {
        return static_cast<State *>(udata)->spare[static_cast<State *>(udata)->used++].release();
      };
      ops.can_merge = [](void *udata, void *left, const kvma_range *, void *right,
                         const kvma_range *) {
        bool equal = false;
        State *state = static_cast<State *>(udata);
        return state->caught.run([&] {
          equal = static_cast<bool>(*static_cast<V *>(left) == *static_cast<V *>(right));
        }) && equal;
      };
      ops.drop = [](void *, void *data) { delete static_cast<V *>(data); };
      ops.udata = this;
      if (kvma_vm_new(&vm, 0, UINT64_MAX - 1, 1, nullptr, &ops) != KVMA_OK)
        no_memory();
    }

    State(const State &) = delete;
    State &operator=(const State &) = delete;
    ~State() { kvma_vm_free(vm); }

    // A split in the middle of a change cannot fail: the copies that splitting at both ends of
    // 'gone' takes are made before, in the order in which they are used. Copying may throw, here.
    void copy_for_splits(const kvma_range &gone) {
      spare[0].reset();
      spare[1].reset();
      used = 0;
      size_t count = 0;
      kvma_vma vma;
      if (kvma_vm_find(vm, gone.start, &vma) == KVMA_OK && vma.range.start < gone.start)
        spare[count++] = std::make_unique<V>(value(vma));
      if (kvma_vm_find(vm, gone.last, &vma) == KVMA_OK && vma.range.last > gone.last)
        spare[count++] = std::make_unique<V>(value(vma));
    }

    // Ends a change.
    void done(kvma_status status) {
      spare[0].reset();
      spare[1].reset();
      used = 0;
      caught.rethrow();
      if (status != KVMA_OK)
        no_memory();
    }

    kvma_vm *vm = nullptr;
    kvma_data_ops ops{};
    std::unique_ptr<V> spare[2];
    size_t used = 0;
    Caught caught;
  };

  const kvma_vm *vm() const { return state_ ? state_->vm : nullptr; }
  kvma_vm *vm() { return state_ ? state_->vm : nullptr; }

  void put(const kvma_vma &where, uint32_t merge, std::unique_ptr<V> fresh) {
    if (!state_)
      state_ = std::make_unique<State>();
    kvma_request request{};
    request.placement.kind = KVMA_FIXED;
    request.merge = merge;
    request.placement.addr = where.range.start;
    request.len = where.range.len;
    request.data = fresh.get();
    kvma_status status = kvma_vm_map(vm(), &request, nullptr, nullptr);
    if (status == KVMA_OK)
      fresh.release();
    state_->done(status);
  }

  std::unique_ptr<State> state_;
};

} // namespace detail
} // namespace mmap

#endif // LIBMMAP_DETAIL_ENGINE_MAP_H
