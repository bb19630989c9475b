// All headers in one C++ program: the C ones give overloads in place of macros.
#include "../c/test.h"

#include "addr_space.h"
#include "kvma.h"
#include "mmap.h"
#include "mmap_c.h"
#include "range_map.h"

TEST(map_any_is_overloaded) {
  MMapAddrSpace *mm = mmap_create(0x10000, 0x100000, 4096);
  CHECK_EQ(mmap_map_any(mm, 4096, 1, 0, -1, 0), 0x10000);
  CHECK_EQ(mmap_map_any(mm, 0, 4096, 1, 0, -1, 0), 0x11000);
  CHECK_EQ(mmap_map_any(mm, 0x20000, 4096, 1, 0, -1, 0), 0x20000);
  mmap_destroy(mm);
}

TEST(all_generations_at_once) {
  MMAddrSpace old;
  CHECK(mm_init(&old, 0, 16, 1));
  CHECK_EQ(mm_mapany(&old, 4, 0, 0, 0, 0), 0);
  mm_free(&old);
  mmap::AddrSpace space;
  CHECK(space.init(0, 16, 1));
  CHECK_EQ(space.map_any(4, 0, 0, 0, 0), 0);
  kvma_vm *vm = nullptr;
  CHECK_EQ(kvma_vm_new(&vm, 0, 15, 1, nullptr, nullptr), KVMA_OK);
  kvma_vm_free(vm);
}

TEST(files_are_descriptors_or_pointers) {
  MMAddrSpace mm;
  MMInfo info;
  int file = 0;
  CHECK(mm_init(&mm, 0, 16, 1));
  CHECK_EQ(mm_mapany(&mm, 4, 0, 0, &file, 1), 0);
  CHECK_EQ(mm_mapat(&mm, 4, 4, 0, 0, 5, 0), 4);
  CHECK_EQ(mm_mapat(&mm, 8, 4, 0, 0, NULL, 0), 8);
  CHECK(mm_querypage(&mm, 9, &info) && info.file == nullptr);
  CHECK_EQ(mm_mapat_cb(&mm, 8, 4, 0, 0, nullptr, 0, nullptr, nullptr), 8);
  CHECK(mm_querypage(&mm, 2, &info) && info.file == &file && info.offset == 3);
  CHECK(mm_querypage(&mm, 5, &info) && info.fd == 5);
  CHECK(mm_querypage(&mm, 9, &info) && info.file == nullptr);
  mm_free(&mm);
}

TESTS(RUN(files_are_descriptors_or_pointers), RUN(map_any_is_overloaded),
      RUN(all_generations_at_once))
