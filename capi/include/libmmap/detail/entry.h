#ifndef LIBMMAP_DETAIL_ENTRY_H
#define LIBMMAP_DETAIL_ENTRY_H

namespace mmap {

template <class K, class V> struct Entry {
  K start;
  K end;
  V val;

  bool empty() const { return start >= end; }
};

} // namespace mmap

#endif // LIBMMAP_DETAIL_ENTRY_H
