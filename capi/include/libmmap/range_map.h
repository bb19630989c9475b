// Drop-in for libmmap's range_map.h, on kvma. C++17. Link with -lkvma, or with -lmmap as before.
//
// Keys that are integers or enums are addresses of kvma's map; keys of other types, which need not
// be more than ordered, are kept in a std::map. Values are any that can be copied and compared.
// What fails by an exception (memory, a copy) has changed nothing.
#ifndef LIBMMAP_RANGE_MAP_H
#define LIBMMAP_RANGE_MAP_H

#include "detail/engine_map.h"
#include "detail/entry.h"
#include "detail/ordered_map.h"

#include <type_traits>

namespace mmap {

namespace detail {

template <class K>
constexpr bool is_address =
    (std::is_integral_v<K> || std::is_enum_v<K>) && sizeof(K) <= sizeof(uint64_t);

template <class K, class V>
using Store = std::conditional_t<is_address<K>, EngineMap<K, V>, OrderedMap<K, V>>;

} // namespace detail

// Non-overlapping half-open ranges [start, end) with a value each. Adjacent ranges with equal
// values are coalesced.
//
//   bool empty() const;  size_t size() const;  void clear();
//   std::optional<Entry<K, V>> find(K key) const;      the entry that contains the point
//   void insert(K start, K end, V val);                splits or replaces what overlaps
//   void remove(K start, K end);                       trims or splits what overlaps
//   bool overlaps(K start, K end) const;
//   std::vector<Entry<K, V>> get_overlapping(K start, K end) const;
//   std::vector<std::pair<K, K>> get_gaps(K start, K end) const;
//   void update_all(std::function<void(V &)> fn);      coalesces nothing
template <class K, class V> class RangeMap : private detail::Store<K, V> {
  using Store = detail::Store<K, V>;

public:
  using Store::clear;
  using Store::empty;
  using Store::find;
  using Store::get_gaps;
  using Store::get_overlapping;
  using Store::insert;
  using Store::overlaps;
  using Store::remove;
  using Store::size;
  using Store::update_all;
};

} // namespace mmap

#endif // LIBMMAP_RANGE_MAP_H
