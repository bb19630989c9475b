// RangeMap<K, V> for keys and values of many kinds, against a map with an entry for each key.
#include "../c/test.h"

#include "range_map.h"

#include <climits>
#include <cstdlib>
#include <map>
#include <memory>
#include <new>
#include <random>
#include <stdexcept>
#include <string>

using mmap::RangeMap;

// Memory that runs out when a test says so: operator new here, and what the library takes by the
// linker's
// --wrap (see programs.rs).
static long left = -1;

static bool refuse() { return left >= 0 && left-- == 0; }

extern "C" void *__real_aligned_alloc(size_t align, size_t size);
extern "C" void *__wrap_aligned_alloc(size_t align, size_t size) {
  return refuse() ? nullptr : __real_aligned_alloc(align, size);
}

// Not inlined: GCC would take new for malloc, and complain that it does not match delete.
__attribute__((noinline)) void *operator new(size_t size) {
  void *memory = refuse() ? nullptr : malloc(size ? size : 1);
  if (!memory)
    throw std::bad_alloc();
  return memory;
}
__attribute__((noinline)) void operator delete(void *memory) noexcept { free(memory); }
__attribute__((noinline)) void operator delete(void *memory, size_t) noexcept { free(memory); }

// A value that counts itself, may throw when it is copied or compared, and has equality of its own.
struct Value {
  static int alive, copies, throw_at;
  int number;
  int comment; // not compared

  Value(int number, int comment = 0) : number(number), comment(comment) { alive++; }
  Value(const Value &other) : number(other.number), comment(other.comment) {
    if (++copies == throw_at)
      throw std::runtime_error("copy");
    alive++;
  }
  Value &operator=(const Value &) = default;
  ~Value() { alive--; }
  bool operator==(const Value &other) const {
    if (other.number == -1 || number == -1)
      throw std::runtime_error("compare");
    return number == other.number;
  }
};
int Value::alive, Value::copies, Value::throw_at;

// The obvious: an entry for each key.
template <class K, class M>
static void compare(const M &map, const std::map<int, int> &model, int low, int high) {
  size_t ranges = 0;
  int before = INT_MIN;
  for (int i = low; i < high; i++) {
    auto found = map.find(K(i));
    auto expected = model.find(i);
    CHECK(bool(found) == (expected != model.end()));
    if (found) {
      CHECK(found->val == expected->second);
      CHECK(!(K(i) < found->start) && K(i) < found->end);
      CHECK(!found->empty());
    }
    int here = expected == model.end() ? INT_MIN : expected->second;
    ranges += here != INT_MIN && here != before;
    before = here;
  }
  CHECK_EQ(map.size(), ranges);
  CHECK(map.empty() == (ranges == 0));
  size_t covered = 0;
  for (auto &entry : map.get_overlapping(K(low), K(high)))
    for (K at = entry.start; at < entry.end; at = K(int(at) + 1))
      covered++;
  CHECK_EQ(covered, model.size());
  for (auto &gap : map.get_gaps(K(low), K(high)))
    for (K at = gap.first; at < gap.second; at = K(int(at) + 1))
      covered++;
  CHECK_EQ(covered, size_t(high - low));
}

template <class K> static void against_the_model(int low, int high) {
  std::mt19937 random(7);
  for (int round = 0; round < 20; round++) {
    RangeMap<K, int> map;
    std::map<int, int> model;
    for (int step = 0; step < 60; step++) {
      int a = low + int(random() % unsigned(high - low)),
          b = low + int(random() % unsigned(high - low));
      int val = int(random() % 3);
      bool overlaps = false;
      for (int i = a; i < b; i++)
        overlaps |= model.count(i) != 0;
      CHECK(map.overlaps(K(a), K(b)) == overlaps);
      if (random() % 3 == 0) {
        map.remove(K(a), K(b));
        for (int i = a; i < b; i++)
          model.erase(i);
      } else {
        map.insert(K(a), K(b), val);
        for (int i = a; i < b; i++)
          model[i] = val;
      }
      // Removing does not coalesce, and need not: what it splits is apart.
      compare<K>(map, model, low, high);
    }
    RangeMap<K, int> copy = map, other;
    other = copy;
    map.clear();
    CHECK(map.empty());
    compare<K>(other, model, low, high);
  }
}

// A key that is no number: only ordered.
struct Address {
  int at;
  explicit Address(int at) : at(at) {}
  explicit operator int() const { return at; }
  bool operator<(const Address &other) const { return at < other.at; }
  bool operator>=(const Address &other) const { return !(*this < other); }
};

enum class Color : int8_t {};

TEST(integers_of_every_kind) {
  against_the_model<int>(-20, 20);
  against_the_model<unsigned>(0, 40);
  against_the_model<int8_t>(-128, -90);
  against_the_model<int8_t>(90, 127);
  against_the_model<uint8_t>(215, 255);
  against_the_model<short>(-20, 20);
  against_the_model<long long>(-20, 20);
  against_the_model<uint64_t>(0, 40);
  against_the_model<Color>(-20, 20);
}

TEST(keys_that_are_no_numbers) {
  against_the_model<double>(-20, 20);
  against_the_model<Address>(-20, 20);
  RangeMap<std::string, int> names;
  names.insert("a", "m", 1);
  names.insert("k", "p", 2);
  CHECK_EQ(names.find("karl")->val, 2);
  CHECK(names.find("a")->end == "k");
  CHECK(!names.find("z"));
}

TEST(the_whole_range_of_a_key) {
  RangeMap<uint64_t, int> map;
  map.insert(0, UINT64_MAX, 1);
  CHECK(map.find(0)->end == UINT64_MAX);
  CHECK(map.find(UINT64_MAX - 1));
  CHECK(!map.find(UINT64_MAX));
  RangeMap<int64_t, int> signs;
  signs.insert(INT64_MIN, INT64_MAX, 1);
  CHECK(signs.find(-1)->start == INT64_MIN && signs.find(-1)->end == INT64_MAX);
  signs.insert(-5, 5, 2);
  CHECK_EQ(signs.size(), 3);
  CHECK(signs.get_gaps(INT64_MIN, INT64_MAX).empty());
}

TEST(ranges_that_are_none) {
  RangeMap<int, int> map;
  map.insert(5, 5, 1);
  map.insert(6, 5, 1);
  CHECK(map.empty());
  map.insert(0, 10, 1);
  map.remove(5, 5);
  map.remove(6, 5);
  CHECK_EQ(map.size(), 1);
  CHECK(!map.overlaps(5, 5) && !map.overlaps(6, 5));
  CHECK(map.get_overlapping(6, 5).empty() && map.get_gaps(6, 5).empty());
  RangeMap<int, int> empty;
  CHECK(empty.get_gaps(0, 5) == (std::vector<std::pair<int, int>>{{0, 5}}));
  empty.remove(0, 5);
  empty.update_all([](int &) { CHECK(false); });
}

TEST(values_are_copied_and_compared_by_their_own_rules) {
  {
    RangeMap<int, Value> map;
    map.insert(0, 10, Value(1, 100));
    map.insert(10, 20, Value(1, 200)); // equal: merged, and the left one's value stays
    CHECK_EQ(map.size(), 1);
    CHECK_EQ(map.find(15)->val.comment, 100);
    map.insert(20, 30, Value(2, 300));
    map.insert(18, 20, Value(2, 400)); // merged with the right one, and the new value stays
    CHECK_EQ(map.size(), 2);
    CHECK_EQ(map.find(25)->val.comment, 400);
    map.update_all([](Value &value) { value.number = 3; });
    CHECK_EQ(map.size(), 2); // coalesces nothing
    RangeMap<int, Value> copy = map;
    CHECK_EQ(copy.size(), 2);
    map.remove(5, 8);
    CHECK_EQ(map.size(), 3);
    CHECK_EQ(Value::alive, 5);
    RangeMap<int, Value> moved = std::move(map);
    CHECK(map.empty());
    map.insert(0, 1, Value(9));
    CHECK_EQ(moved.size(), 3);
  }
  CHECK_EQ(Value::alive, 0);
  RangeMap<int, std::shared_ptr<int>> shared;
  auto pointer = std::make_shared<int>(1);
  shared.insert(0, 10, pointer);
  shared.insert(3, 5, std::make_shared<int>(1));
  CHECK_EQ(pointer.use_count(), 3);
  shared.clear();
  CHECK_EQ(pointer.use_count(), 1);
  RangeMap<int, std::string> text;
  text.insert(0, 10, std::string(100, 'a'));
  text.insert(4, 6, "b");
  CHECK(text.find(7)->val == std::string(100, 'a'));
}

template <class K> static void what_throws_changes_nothing() {
  for (int operation = 0; operation < 3; operation++) {
    for (int at = 1;; at++) {
      RangeMap<K, Value> map;
      map.insert(K(0), K(10), Value(1));
      map.insert(K(12), K(20), Value(2));
      bool thrown = false;
      Value::copies = 0;
      Value::throw_at = at;
      try {
        if (operation == 0)
          map.insert(K(4), K(6), Value(3));
        else if (operation == 1)
          map.insert(K(4), K(15), Value(3));
        else
          map.remove(K(4), K(6));
      } catch (const std::runtime_error &) {
        thrown = true;
      }
      Value::throw_at = 0;
      CHECK(thrown == (map.size() == 2 && map.find(K(5)) && map.find(K(5))->val.number == 1));
      if (thrown)
        CHECK(map.find(K(0))->end == K(10) && map.find(K(13))->start == K(12));
      if (!thrown)
        break;
      CHECK(at < 20);
    }
  }
  CHECK_EQ(Value::alive, 0);
}

TEST(a_copy_that_throws_changes_nothing) {
  what_throws_changes_nothing<int>();
  what_throws_changes_nothing<double>();
}

TEST(a_comparison_that_throws_arrives) {
  RangeMap<int, Value> map;
  map.insert(0, 10, Value(1));
  bool thrown = false;
  try {
    map.insert(10, 20, Value(-1));
  } catch (const std::runtime_error &) {
    thrown = true;
  }
  CHECK(thrown);
  CHECK_EQ(map.find(5)->val.number, 1);
  map.clear();
  CHECK_EQ(Value::alive, 0);
}

template <class K> static void without_memory() {
  for (int operation = 0; operation < 4; operation++) {
    for (long blocks = 0;; blocks++) {
      RangeMap<K, int> map;
      map.insert(K(0), K(10), 1);
      map.insert(K(12), K(20), 2);
      bool failed = false;
      left = blocks;
      try {
        if (operation == 0)
          map.insert(K(4), K(6), 3);
        else if (operation == 1)
          map.insert(K(4), K(15), 3);
        else if (operation == 2)
          map.remove(K(4), K(6));
        else
          RangeMap<K, int> copy(map);
      } catch (const std::bad_alloc &) {
        failed = true;
      }
      left = -1;
      if (failed || operation == 3) {
        CHECK_EQ(map.size(), 2);
        CHECK(map.find(K(5))->start == K(0) && map.find(K(5))->end == K(10) &&
              map.find(K(5))->val == 1);
        CHECK(map.find(K(13))->start == K(12) && map.find(K(13))->val == 2);
      } else {
        CHECK(!map.find(K(5)) || map.find(K(5))->val == 3);
      }
      if (!failed)
        break;
      CHECK(blocks < 50);
    }
  }
}

TEST(out_of_memory_changes_nothing) {
  without_memory<int>();
  without_memory<double>();
  left = 0;
  RangeMap<int, int> map; // takes nothing
  bool failed = false;
  try {
    map.insert(0, 1, 1);
  } catch (const std::bad_alloc &) {
    failed = true;
  }
  left = -1;
  CHECK(failed && map.empty());
}

TESTS(RUN(integers_of_every_kind), RUN(keys_that_are_no_numbers), RUN(the_whole_range_of_a_key),
      RUN(ranges_that_are_none), RUN(values_are_copied_and_compared_by_their_own_rules),
      RUN(a_copy_that_throws_changes_nothing), RUN(a_comparison_that_throws_arrives),
      RUN(out_of_memory_changes_nothing))
