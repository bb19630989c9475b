// What libmmap's C++ generation got wrong, as it documents it.
#include "../c/test.h"

#include "addr_space.h"
#include "mmap_c.h"

#include <stdexcept>
#include <thread>
#include <tuple>
#include <vector>

using mmap::AddrSpace;
using mmap::Error;
using mmap::MapInfo;

static const size_t kPage = 4096;
static const uintptr_t kBase = 0x10000;
static const uintptr_t kNone = (uintptr_t)-1;

struct Heard {
  std::vector<std::tuple<uintptr_t, size_t, MapInfo>> calls;
  mmap::UpdateFn fn() {
    return
        [this](uintptr_t start, size_t len, MapInfo info) { calls.emplace_back(start, len, info); };
  }
  uintptr_t start(size_t i) const { return std::get<0>(calls.at(i)); }
  size_t len(size_t i) const { return std::get<1>(calls.at(i)); }
  MapInfo info(size_t i) const { return std::get<2>(calls.at(i)); }
};

static AddrSpace space() {
  AddrSpace mm;
  CHECK(mm.init(kBase, 0x100000, kPage));
  return mm;
}

static MapInfo query(const AddrSpace &mm, uintptr_t addr) {
  MapInfo info;
  CHECK(mm.query_page(addr, &info));
  return info;
}

TEST(a_split_advances_the_file_offset) {
  AddrSpace mm = space();
  Heard heard;
  CHECK_EQ(mm.map_at(kBase, 8 * kPage, 1, 0, 3, 0), kBase);
  CHECK(mm.unmap(kBase + 2 * kPage, 2 * kPage, heard.fn()) == Error::kOk);
  CHECK_EQ(heard.info(0).offset, 2 * kPage);
  CHECK_EQ(query(mm, kBase).offset, 0);
  CHECK_EQ(query(mm, kBase + 4 * kPage).offset, 4 * kPage);
}

TEST(offsets_below_a_page_are_kept) {
  AddrSpace mm = space();
  CHECK_EQ(mm.map_at(kBase, 4 * kPage, 1, 0, 3, 0x123), kBase);
  CHECK(mm.unmap(kBase, kPage) == Error::kOk);
  CHECK_EQ(query(mm, kBase + kPage).offset, (int64_t)kPage + 0x123);
  CHECK_EQ(mm.map_at(kBase, kPage, 1, 0, 3, -(int64_t)kPage), kBase);
  CHECK_EQ(query(mm, kBase).offset, -(int64_t)kPage);
}

TEST(contiguous_file_ranges_merge) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_at(kBase, 2 * kPage, 1, 0, 3, 0);
  mm.map_at(kBase + 2 * kPage, 2 * kPage, 1, 0, 3, 2 * kPage);
  mm.unmap(kBase, 4 * kPage, heard.fn());
  CHECK_EQ(heard.calls.size(), 1);
  CHECK_EQ(heard.len(0), 4 * kPage);
}

TEST(ranges_with_equal_offsets_do_not_merge) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_at(kBase, 2 * kPage, 1, 0, 3, 0);
  mm.map_at(kBase + 2 * kPage, 2 * kPage, 1, 0, 3, 0);
  CHECK_EQ(query(mm, kBase + 2 * kPage).offset, 0);
  mm.unmap(kBase, 4 * kPage, heard.fn());
  CHECK_EQ(heard.calls.size(), 2);
}

TEST(equal_anonymous_ranges_merge) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_any(kPage, 1, 0, -1, 0);
  mm.map_any(kPage, 1, 0, -1, 0);
  mm.unmap(kBase, 2 * kPage, heard.fn());
  CHECK_EQ(heard.calls.size(), 1);
}

TEST(protect_over_a_gap_is_an_error) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_at(kBase, kPage, 1, 0, -1, 0);
  mm.map_at(kBase + 2 * kPage, kPage, 1, 0, -1, 0);
  CHECK(mm.protect(kBase, 3 * kPage, 7, heard.fn()) == Error::kNoMem);
  // What is mapped has been protected, as libmmap's own test wants it.
  CHECK_EQ(heard.calls.size(), 2);
  CHECK_EQ(query(mm, kBase).prot, 7);
  CHECK_EQ(query(mm, kBase + 2 * kPage).prot, 7);
  MapInfo info;
  CHECK(!mm.query_page(kBase + kPage, &info));
  CHECK(mm.protect(kBase, kPage, 1) == Error::kOk);
}

TEST(addresses_beyond_the_space_are_refused) {
  AddrSpace mm = space();
  // The end minus the start underflows.
  CHECK_EQ(mm.map_at(0x200000, kPage, 1, 0, -1, 0), kNone);
  CHECK_EQ(mm.map_at((uintptr_t)-kPage, kPage, 1, 0, -1, 0), kNone);
  CHECK(mm.unmap(0x200000, kPage) == Error::kInval);
  CHECK(mm.protect(0x200000, kPage, 1) == Error::kInval);
  CHECK_EQ(mm.map_any(0x200000, kPage, 1, 0, -1, 0), kBase);
  AddrSpace wraps;
  CHECK(!wraps.init(kBase, SIZE_MAX, kPage));
  CHECK_EQ(wraps.map_any(kPage, 1, 0, -1, 0), kNone);
}

TEST(a_length_near_2_to_the_64_is_refused) {
  AddrSpace mm = space();
  CHECK_EQ(mm.map_any(SIZE_MAX, 1, 0, -1, 0), kNone);
  CHECK_EQ(mm.map_at(kBase, SIZE_MAX - kPage + 2, 1, 0, -1, 0), kNone);
  CHECK(mm.unmap(kBase, SIZE_MAX) == Error::kInval);
  CHECK(mm.protect(kBase, SIZE_MAX, 1) == Error::kInval);
  CHECK_EQ(mm.map_any(0, 1, 0, -1, 0), kNone);
}

TEST(the_marked_state_comes_back) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_at(kBase, 4 * kPage, 5, 0, 3, 0);              // text
  mm.map_at(kBase + 4 * kPage, 2 * kPage, 3, 0, -1, 0); // data
  mm.map_at(kBase + 8 * kPage, 4 * kPage, 1, 0, 4, 0);  // a file
  mm.mark_original();

  CHECK(mm.protect(kBase + kPage, kPage, 7) == Error::kOk); // protected
  CHECK(mm.unmap(kBase + 4 * kPage, kPage) == Error::kOk);  // unmapped
  mm.map_at(kBase + 9 * kPage, kPage, 2, 0, -1, 0);         // overwritten
  mm.map_at(kBase + 16 * kPage, kPage, 3, 0, -1, 0);        // new
  mm.unmap_non_original(heard.fn());

  CHECK_EQ(heard.calls.size(), 3);
  CHECK(heard.start(0) == kBase + kPage && heard.len(0) == kPage && heard.info(0).prot == 7);
  CHECK(heard.info(0).original);
  CHECK(heard.start(1) == kBase + 9 * kPage && !heard.info(1).original && heard.info(1).fd == -1);
  CHECK(heard.start(2) == kBase + 16 * kPage && !heard.info(2).original);
  for (int page = 0; page < 4; page++) {
    MapInfo text = query(mm, kBase + page * kPage);
    CHECK(text.prot == 5 && text.fd == 3 && text.offset == (int64_t)(page * kPage) &&
          text.original);
    MapInfo file = query(mm, kBase + (8 + page) * kPage);
    CHECK(file.prot == 1 && file.fd == 4 && file.offset == (int64_t)(page * kPage) &&
          file.original);
  }
  CHECK(query(mm, kBase + 4 * kPage).prot == 3 && query(mm, kBase + 4 * kPage).original);
  MapInfo info;
  CHECK(!mm.query_page(kBase + 16 * kPage, &info));

  // And again, as often as one likes.
  Heard again;
  mm.unmap_non_original(again.fn());
  CHECK(again.calls.empty());
  mm.unmap(kBase, 16 * kPage);
  mm.unmap_non_original();
  CHECK_EQ(query(mm, kBase + 11 * kPage).offset, 3 * kPage);
}

TEST(without_a_mark_everything_goes) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_any(kPage, 1, 0, -1, 0);
  mm.unmap_non_original(heard.fn());
  CHECK_EQ(heard.calls.size(), 1);
  CHECK_EQ(mm.map_any(0x100000, 1, 0, -1, 0), kBase);
  mm.mark_original();
  mm.reset();
  mm.unmap_non_original();
  CHECK_EQ(mm.map_any(0x100000, 1, 0, -1, 0), kBase);
}

TEST(what_a_callback_throws_arrives_and_nothing_has_changed) {
  AddrSpace mm = space();
  mm.map_at(kBase, kPage, 1, 0, -1, 0);
  mm.map_at(kBase + kPage, kPage, 2, 0, -1, 0);
  int calls = 0;
  mmap::UpdateFn throws = [&](uintptr_t, size_t, MapInfo) {
    if (++calls == 2)
      throw std::runtime_error("no");
  };
  auto thrown = [&](auto work) {
    calls = 0;
    try {
      work();
    } catch (const std::runtime_error &) {
      return true;
    }
    return false;
  };
  CHECK(thrown([&] { mm.unmap(kBase, 2 * kPage, throws); }));
  CHECK(thrown([&] { mm.map_at(kBase, 2 * kPage, 4, 0, -1, 0, throws); }));
  CHECK(thrown([&] { mm.protect(kBase, 2 * kPage, 4, throws); }));
  CHECK(thrown([&] { mm.unmap_non_original(throws); }));
  CHECK(query(mm, kBase).prot == 1 && query(mm, kBase + kPage).prot == 2);
}

TEST(a_callback_may_look_and_change) {
  AddrSpace mm = space();
  mm.map_at(kBase, 4 * kPage, 1, 0, -1, 0);
  int calls = 0;
  mm.unmap(kBase + kPage, kPage, [&](uintptr_t start, size_t, MapInfo) {
    calls++;
    CHECK_EQ(query(mm, start).prot, 1); // before the change
    CHECK_EQ(mm.map_any(kPage, 2, 0, -1, 0), kBase + 4 * kPage);
  });
  CHECK_EQ(calls, 1);
  MapInfo info;
  CHECK(!mm.query_page(kBase + kPage, &info));
  CHECK_EQ(query(mm, kBase + 4 * kPage).prot, 2);
}

TEST(spaces_are_values) {
  AddrSpace mm = space();
  mm.map_at(kBase, 2 * kPage, 1, 0, -1, 0);
  mm.mark_original();
  AddrSpace copy = mm;
  copy.unmap(kBase, kPage);
  CHECK_EQ(query(mm, kBase).prot, 1);
  copy.unmap_non_original();
  CHECK_EQ(query(copy, kBase).prot, 1);
  AddrSpace moved = std::move(copy);
  CHECK_EQ(query(moved, kBase).prot, 1);
  copy = moved;
  copy.reset();
  CHECK_EQ(query(moved, kBase).prot, 1);
  // A failed init leaves everything as it was.
  CHECK(!moved.init(kBase, kPage, 3000));
  CHECK_EQ(query(moved, kBase).prot, 1);
  CHECK(moved.init(kBase, kPage, kPage));
  MapInfo info;
  CHECK(!moved.query_page(kBase, &info));
}

TEST(all_of_prot_and_flags_is_kept) {
  AddrSpace mm = space();
  mm.map_at(kBase, kPage, -2, 0x7fffffff, 1 << 30, 1 << 20);
  MapInfo info = query(mm, kBase);
  CHECK(info.prot == -2 && info.flags == 0x7fffffff && info.fd == 1 << 30 &&
        info.offset == 1 << 20);
  CHECK(mm.protect(kBase, kPage, 0x1000007) == Error::kOk);
  CHECK_EQ(query(mm, kBase).prot, 0x1000007);
}

TEST(placement_is_first_fit_from_the_bottom) {
  AddrSpace mm = space();
  mm.map_at(kBase + 2 * kPage, kPage, 1, 0, -1, 0);
  CHECK_EQ(mm.map_any(3 * kPage, 1, 0, -1, 0), kBase + 3 * kPage);
  CHECK_EQ(mm.map_any(2 * kPage, 1, 0, -1, 0), kBase);
  CHECK_EQ(mm.map_any(kBase + 1, kPage, 1, 0, -1, 0), kBase + 6 * kPage);
}

TEST(neighbours_that_become_equal_are_one_region) {
  AddrSpace mm = space();
  Heard heard;
  mm.map_at(kBase, 2 * kPage, 3, 0, -1, 0);
  mm.mark_original();
  mm.map_at(kBase + 2 * kPage, 2 * kPage, 3, 0, -1, 0);
  CHECK(mm.protect(kBase, 4 * kPage, 1, heard.fn()) == Error::kOk);
  CHECK_EQ(heard.calls.size(), 2);
  mm.mark_original();
  CHECK(mm.unmap(kBase, 4 * kPage, heard.fn()) == Error::kOk);
  CHECK_EQ(heard.calls.size(), 3);
  CHECK_EQ(heard.len(2), 4 * kPage);
}

// How LFI's runtime asks for it.
TEST(aslr_places_at_random) {
  AddrSpace mm = space(), other = space();
  CHECK(mm.init(kBase, 1 << 30, kPage) && other.init(kBase, 1 << 30, kPage));
  mm.enable_aslr(1);
  other.enable_aslr(2);
  CHECK_EQ(mm.map_any(kBase, kPage, 1, 0, -1, 0), kBase);
  uintptr_t last = 0;
  int descents = 0, same = 0;
  for (int i = 0; i < 64; i++) {
    uintptr_t at = mm.map_any(3 * kPage, 1, 0, -1, 0);
    CHECK(at != kNone && at % kPage == 0);
    CHECK(query(mm, at + 2 * kPage).prot == 1);
    descents += at < last;
    same += at == other.map_any(3 * kPage, 1, 0, -1, 0);
    last = at;
  }
  CHECK(descents > 16 && descents < 48);
  CHECK(same < 8);
  // A copy draws the same, a reset changes nothing, and a new space places from the bottom.
  AddrSpace copy = mm;
  CHECK_EQ(copy.map_any(kPage, 1, 0, -1, 0), mm.map_any(kPage, 1, 0, -1, 0));
  mm.reset();
  CHECK(mm.map_any(kPage, 1, 0, -1, 0) != kBase);
  CHECK(mm.init(kBase, 1 << 30, kPage));
  CHECK_EQ(mm.map_any(kPage, 1, 0, -1, 0), kBase);
}

TEST(aslr_in_c_places_all_that_fits) {
  MMapAddrSpace *mm = mmap_create(kBase, 64 * kPage, kPage);
  mmap_enable_aslr(mm, 7);
  for (int i = 0; i < 64; i++)
    CHECK(mmap_map_any(mm, 0, kPage, 1, 0, -1, 0) != kNone);
  CHECK_EQ(mmap_map_any(mm, 0, kPage, 1, 0, -1, 0), kNone);
  CHECK_EQ(mmap_unmap(mm, kBase, 64 * kPage, nullptr, nullptr), MMAP_OK);
  CHECK_EQ(mmap_map_any(mm, 0, 64 * kPage, 1, 0, -1, 0), kBase);
  mmap_destroy(mm);
  mmap_enable_aslr(nullptr, 7);
}

TEST(many_threads_may_look_at_once) {
  AddrSpace mm = space();
  mm.map_at(kBase, 8 * kPage, 1, 0, 3, 0);
  const AddrSpace &shared = mm;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([&] {
      for (int j = 0; j < 20000; j++)
        CHECK_EQ(query(shared, kBase + size_t(j % 8) * kPage).offset,
                 int64_t(j % 8) * int64_t(kPage));
    });
  for (auto &thread : threads)
    thread.join();
}

TEST(a_failed_allocation_loses_nothing) {
  static long left;
  kvma_allocator few{};
  few.size = sizeof few;
  few.alloc = [](void *, size_t size, size_t align) {
    return left-- > 0 ? aligned_alloc(align, size) : nullptr;
  };
  few.free = [](void *, void *memory, size_t, size_t) { free(memory); };
  AddrSpace mm;
  left = 0;
  CHECK(!mm.init(kBase, 0x100000, kPage, &few));
  left = 100;
  CHECK(mm.init(kBase, 0x100000, kPage, &few));
  mm.map_at(kBase, 8 * kPage, 1, 0, 3, 0);
  left = 0;
  Heard heard;
  CHECK(mm.unmap(kBase + kPage, kPage, heard.fn()) == Error::kNoMem);
  CHECK(mm.protect(kBase + kPage, kPage, 7, heard.fn()) == Error::kNoMem);
  CHECK_EQ(mm.map_at(kBase + kPage, kPage, 7, 0, -1, 0, heard.fn()), kNone);
  CHECK_EQ(mm.map_any(kPage, 7, 0, -1, 0), kNone);
  CHECK(heard.calls.empty());
  for (int page = 0; page < 8; page++) {
    MapInfo info = query(mm, kBase + page * kPage);
    CHECK(info.prot == 1 && info.fd == 3 && info.offset == (int64_t)(page * kPage));
  }
  bool thrown = false;
  try {
    AddrSpace copy(mm);
  } catch (const std::bad_alloc &) {
    thrown = true;
  }
  CHECK(thrown);
}

TESTS(RUN(neighbours_that_become_equal_are_one_region), RUN(aslr_places_at_random),
      RUN(aslr_in_c_places_all_that_fits), RUN(many_threads_may_look_at_once),
      RUN(a_failed_allocation_loses_nothing), RUN(a_split_advances_the_file_offset),
      RUN(offsets_below_a_page_are_kept), RUN(contiguous_file_ranges_merge),
      RUN(ranges_with_equal_offsets_do_not_merge), RUN(equal_anonymous_ranges_merge),
      RUN(protect_over_a_gap_is_an_error), RUN(addresses_beyond_the_space_are_refused),
      RUN(a_length_near_2_to_the_64_is_refused), RUN(the_marked_state_comes_back),
      RUN(without_a_mark_everything_goes),
      RUN(what_a_callback_throws_arrives_and_nothing_has_changed),
      RUN(a_callback_may_look_and_change), RUN(spaces_are_values),
      RUN(all_of_prot_and_flags_is_kept), RUN(placement_is_first_fit_from_the_bottom))
