// mmap::AddrSpace against the obvious: an array of pages. Random calls on few pages, so that edges
// are hit; every callback and every page is checked after each.
#include "../c/test.h"

#include "addr_space.h"

#include <array>
#include <optional>
#include <random>

using mmap::AddrSpace;
using mmap::Error;
using mmap::MapInfo;

static const int kPages = 24;
static const uintptr_t kNone = (uintptr_t)-1;

struct Model {
  uintptr_t base;
  size_t page;
  std::array<std::optional<MapInfo>, kPages> now{}, marked{};

  uintptr_t addr(int index) const { return base + uintptr_t(index) * page; }

  bool is_free(int first, int count) const {
    for (int i = first; i < first + count; i++)
      if (i < 0 || i >= kPages || now[size_t(i)])
        return false;
    return true;
  }

  int lowest(int count) const {
    for (int i = 0; i + count <= kPages; i++)
      if (is_free(i, count))
        return i;
    return -1;
  }

  // The offset of a file advances page by page; without a file there is nothing to advance.
  void map(int first, int count, MapInfo info) {
    for (int i = 0; i < count; i++) {
      now[size_t(first + i)] = info;
      if (info.fd >= 0)
        now[size_t(first + i)]->offset += int64_t(page) * i;
    }
  }
};

// Checks that callbacks hear of exactly the pages in 'expected', ascending, each piece with its
// first page's information and of pages that belong together.
struct Listener {
  const Model &model;
  int next = 0;
  std::array<bool, kPages> heard_of{};

  mmap::UpdateFn fn() {
    return [this](uintptr_t start, size_t len, MapInfo info) {
      CHECK(len > 0 && len % model.page == 0 && (start - model.base) % model.page == 0);
      int first = int((start - model.base) / model.page), count = int(len / model.page);
      CHECK(first >= next && first + count <= kPages);
      for (int i = first; i < first + count; i++) {
        CHECK(model.now[size_t(i)].has_value());
        MapInfo expected = info;
        if (info.fd >= 0)
          expected.offset += int64_t(model.page) * (i - first);
        CHECK(*model.now[size_t(i)] == expected);
        heard_of[size_t(i)] = true;
      }
      next = first + count;
    };
  }

  template <class F> void expect(F wanted) const {
    for (int i = 0; i < kPages; i++)
      CHECK(heard_of[size_t(i)] == bool(wanted(i)));
  }
};

static void compare(const AddrSpace &mm, const Model &model) {
  for (int i = 0; i < kPages; i++) {
    MapInfo info;
    bool mapped = mm.query_page(model.addr(i) + (model.page > 1 ? 1 : 0), &info);
    CHECK(mapped == model.now[size_t(i)].has_value());
    CHECK(!mapped || info == *model.now[size_t(i)]);
  }
  MapInfo info;
  CHECK(!mm.query_page(model.addr(kPages), &info));
}

static void against_the_model(uintptr_t base, size_t page, unsigned seed) {
  std::mt19937 random(seed);
  auto pick = [&](int count) { return int(random() % unsigned(count)); };
  AddrSpace mm;
  CHECK(mm.init(base, page * kPages, page));
  Model model{base, page};
  for (int step = 0; step < 3000; step++) {
    int first = pick(kPages), count = 1 + pick(kPages - first > 6 ? 6 : kPages - first);
    auto in_range = [&](int i) { return first <= i && i < first + count; };
    size_t len = page * size_t(count) - (page > 1 ? size_t(pick(2)) : 0); // rounded up
    MapInfo info{pick(8), pick(2), pick(3) - 1, int64_t(page) * pick(4) + (page > 1 ? pick(2) : 0),
                 false};
    Listener heard{model};
    switch (pick(8)) {
    case 0:
    case 1: {
      CHECK(mm.map_at(model.addr(first), len, info.prot, info.flags, info.fd, info.offset,
                      heard.fn()) == model.addr(first));
      heard.expect([&](int i) { return in_range(i) && model.now[size_t(i)]; });
      model.map(first, count, info);
      break;
    }
    case 2: {
      int hint = pick(kPages + 4) - 2; // also outside
      bool aligned = pick(4) != 0 || page == 1;
      uintptr_t at = model.addr(hint) + (aligned ? 0 : 1);
      int place = aligned && at != 0 && model.is_free(hint, count) ? hint : model.lowest(count);
      uintptr_t got = mm.map_any(at, len, info.prot, info.flags, info.fd, info.offset);
      CHECK(got == (place < 0 ? kNone : model.addr(place)));
      if (place >= 0)
        model.map(place, count, info);
      break;
    }
    case 3:
    case 4:
      CHECK(mm.unmap(model.addr(first), len, heard.fn()) == Error::kOk);
      heard.expect([&](int i) { return in_range(i) && model.now[size_t(i)]; });
      for (int i = first; i < first + count; i++)
        model.now[size_t(i)].reset();
      break;
    case 5: {
      bool gap = false;
      for (int i = first; i < first + count; i++)
        gap |= !model.now[size_t(i)];
      CHECK(mm.protect(model.addr(first), len, info.prot, heard.fn()) ==
            (gap ? Error::kNoMem : Error::kOk));
      heard.expect([&](int i) { return in_range(i) && model.now[size_t(i)]; });
      for (int i = first; i < first + count; i++)
        if (model.now[size_t(i)])
          model.now[size_t(i)]->prot = info.prot;
      break;
    }
    case 6:
      if (pick(4) == 0) {
        mm.mark_original();
        for (auto &each : model.now)
          if (each)
            each->original = true;
        model.marked = model.now;
      } else if (pick(3) == 0) {
        mm.unmap_non_original(heard.fn());
        heard.expect([&](int i) {
          auto &now = model.now[size_t(i)], &marked = model.marked[size_t(i)];
          return now && (!now->original || now->prot != marked->prot);
        });
        model.now = model.marked;
      }
      break;
    case 7: {
      AddrSpace copy = mm;
      compare(copy, model);
      copy.reset();
      if (pick(2))
        mm = AddrSpace(mm);
      if (pick(20) == 0) {
        mm.reset();
        model.now = model.marked = {};
      }
      break;
    }
    }
    compare(mm, model);
  }
}

TEST(pages_of_4096_bytes) {
  for (unsigned seed = 0; seed < 4; seed++)
    against_the_model(0x10000, 4096, seed);
}

TEST(pages_of_one_byte) { against_the_model(0x10, 1, 4); }

TEST(from_address_zero) { against_the_model(0, 4096, 5); }

TEST(pages_of_a_gigabyte) { against_the_model(uintptr_t(1) << 40, size_t(1) << 30, 6); }

TESTS(RUN(pages_of_4096_bytes), RUN(pages_of_one_byte), RUN(from_address_zero),
      RUN(pages_of_a_gigabyte))
