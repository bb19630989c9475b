// The snippets on libmmap's page, as they stand there, before and after the hint came.
#include "../c/test.h"

// <sys/mman.h> has a function of the namespace's name; this has the numbers alone.
#include <linux/mman.h>

#include "addr_space.h"
#include "range_map.h"

TEST(range_map) {
  mmap::RangeMap<int, int> m;
  m.insert(0, 10, 1); // [0, 10) -> 1
  CHECK(m.size() == 1 && m.find(9)->end == 10 && m.find(9)->val == 1);
  m.insert(5, 15, 2); // [0, 5) -> 1, [5, 15) -> 2
  CHECK(m.size() == 2 && m.find(4)->end == 5 && m.find(4)->val == 1);
  auto e = m.find(7); // returns entry [5, 15) -> 2
  CHECK(e && e->start == 5 && e->end == 15 && e->val == 2);
  m.remove(3, 12); // [0, 3) -> 1, [12, 15) -> 2
  CHECK(m.size() == 2 && m.find(0)->end == 3 && m.find(14)->start == 12 && !m.find(3) &&
        !m.find(11));
}

TEST(addr_space_without_a_hint) {
  mmap::AddrSpace mm;
  mm.init(0x10000, 0x100000, 4096);
  uintptr_t p = mm.map_any(4096, PROT_READ, MAP_PRIVATE, -1, 0);
  CHECK_EQ(p, 0x10000);
  int called = 0;
  mm.unmap(p, 4096, [&called](uintptr_t start, size_t len, mmap::MapInfo info) {
    // perform actual munmap here
    CHECK(start == 0x10000 && len == 4096 && info.prot == PROT_READ && info.flags == MAP_PRIVATE);
    called++;
  });
  CHECK_EQ(called, 1);
}

TEST(addr_space_with_a_hint) {
  mmap::AddrSpace mm;
  mm.init(0x10000, 0x100000, 4096);

  uintptr_t p = mm.map_any(0, 4096, PROT_READ, MAP_PRIVATE, -1, 0);

  mm.unmap(p, 4096, [](uintptr_t start, size_t len, mmap::MapInfo info) {
    // perform actual munmap here
    CHECK(start == 0x10000 && len == 4096 && info.fd == -1);
  });
  CHECK_EQ(mm.map_any(0x20000, 4096, PROT_READ, MAP_PRIVATE, -1, 0), 0x20000);
}

// Every row of the tables.
TEST(all_methods) {
  mmap::AddrSpace mm;
  mmap::MapInfo info;
  mmap::UpdateFn ufn = [](uintptr_t, size_t, mmap::MapInfo) {};
  CHECK(mm.init(0x10000, 0x100000, 4096));
  CHECK_EQ(mm.map_at(0x10000, 4096, PROT_READ, 0, -1, 0, ufn), 0x10000);
  CHECK(mm.query_page(0x10000, &info) && info.prot == PROT_READ);
  CHECK(mm.protect(0x10000, 4096, PROT_NONE, ufn) == mmap::Error::kOk);
  mm.mark_original();
  mm.unmap_non_original(ufn);
  CHECK(mm.query_page(0x10000, &info) && info.original);
  CHECK(mm.unmap(0x10000, 4096, ufn) == mmap::Error::kOk);
  mm.reset();

  mmap::RangeMap<uintptr_t, mmap::MapInfo> m;
  m.insert(0, 10, info);
  CHECK(m.overlaps(9, 20) && !m.overlaps(10, 20));
  CHECK_EQ(m.get_overlapping(0, 100).size(), 1);
  CHECK(m.get_gaps(0, 100) == (std::vector<std::pair<uintptr_t, uintptr_t>>{{10, 100}}));
  m.update_all([](mmap::MapInfo &each) { each.prot = 7; });
  CHECK_EQ(m.find(5)->val.prot, 7);
  m.clear();
  CHECK(m.empty());
}

TESTS(RUN(range_map), RUN(addr_space_without_a_hint), RUN(addr_space_with_a_hint), RUN(all_methods))
