// RangeMap for keys that are no numbers: in a std::map, by the start of each range.
//
// What a change puts in is made first, in a map of its own; then what it replaces is taken out and
// the new entries are spliced in, which neither allocates nor copies. So an exception leaves the
// map as it was.
#ifndef LIBMMAP_DETAIL_ORDERED_MAP_H
#define LIBMMAP_DETAIL_ORDERED_MAP_H

#include "entry.h"

#include <cstddef>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <utility>
#include <vector>

namespace mmap {
namespace detail {

template <class K, class V> class OrderedMap {
public:
  bool empty() const { return map_.empty(); }
  size_t size() const { return map_.size(); }
  void clear() { map_.clear(); }

  std::optional<Entry<K, V>> find(K key) const {
    auto it = first_behind(map_, key);
    if (it == map_.end() || key < it->first)
      return std::nullopt;
    return entry(it);
  }

  void insert(K start, K end, V val) {
    if (!(start < end))
      return;
    auto first = first_behind(map_, start), last = map_.lower_bound(end);
    Map fresh;
    K from = start, to = end;
    const V *value = &val;

    // What ends where this begins, or is split there: merged, or kept.
    if (first != last && first->first < start) {
      if (first->second.second == val) {
        from = first->first;
        value = &first->second.second;
      } else {
        fresh.emplace(first->first, std::make_pair(start, first->second.second));
      }
    } else if (first != map_.begin()) {
      auto left = std::prev(first);
      if (!(left->second.first < start) && left->second.second == val) {
        from = left->first;
        value = &left->second.second;
        first = left;
      }
    }
    // What begins where this ends, or is split there.
    auto split = last == map_.begin() ? map_.end() : std::prev(last);
    if (split != map_.end() && end < split->second.first) {
      if (val == split->second.second)
        to = split->second.first;
      else
        fresh.emplace(end, std::make_pair(split->second.first, split->second.second));
    } else if (last != map_.end() && !(end < last->first) && val == last->second.second) {
      to = last->second.first;
      ++last;
    }
    fresh.emplace(from, std::make_pair(to, *value));
    replace(first, last, fresh);
  }

  void remove(K start, K end) {
    if (!(start < end))
      return;
    auto first = first_behind(map_, start), last = map_.lower_bound(end);
    if (first == last)
      return;
    Map fresh;
    auto split = std::prev(last);
    if (first->first < start)
      fresh.emplace(first->first, std::make_pair(start, first->second.second));
    if (end < split->second.first)
      fresh.emplace(end, std::make_pair(split->second.first, split->second.second));
    replace(first, last, fresh);
  }

  bool overlaps(K start, K end) const {
    if (!(start < end))
      return false;
    auto it = first_behind(map_, start);
    return it != map_.end() && it->first < end;
  }

  std::vector<Entry<K, V>> get_overlapping(K start, K end) const {
    std::vector<Entry<K, V>> result;
    if (!(start < end))
      return result;
    for (auto it = first_behind(map_, start); it != map_.end() && it->first < end; ++it)
      result.push_back(entry(it));
    return result;
  }

  std::vector<std::pair<K, K>> get_gaps(K start, K end) const {
    std::vector<std::pair<K, K>> result;
    if (!(start < end))
      return result;
    K at = start;
    for (auto it = first_behind(map_, start); it != map_.end() && it->first < end; ++it) {
      if (at < it->first)
        result.push_back({at, it->first});
      at = it->second.first;
    }
    if (at < end)
      result.push_back({at, end});
    return result;
  }

  void update_all(std::function<void(V &)> fn) {
    for (auto &range : map_)
      fn(range.second.second);
  }

private:
  // start -> (end, value)
  using Map = std::map<K, std::pair<K, V>>;

  static Entry<K, V> entry(typename Map::const_iterator it) {
    return Entry<K, V>{it->first, it->second.first, it->second.second};
  }

  // The first entry that ends behind 'key'.
  template <class M> static auto first_behind(M &map, const K &key) {
    auto it = map.upper_bound(key);
    if (it != map.begin() && key < std::prev(it)->second.first)
      --it;
    return it;
  }

  void replace(typename Map::iterator first, typename Map::iterator last, Map &fresh) {
    map_.erase(first, last);
    map_.merge(fresh);
  }

  Map map_;
};

} // namespace detail
} // namespace mmap

#endif // LIBMMAP_DETAIL_ORDERED_MAP_H
