// kvma.hpp: who owns a handle, and that nothing is freed twice or forgotten.
#include "../c/test.h"

#include <kvma.hpp>

#include <string>
#include <type_traits>
#include <vector>

#include <linux/mman.h>

using kvma::Linux;
using kvma::LinuxCall;
using kvma::Status;
using kvma::Update;
using kvma::Vm;

static_assert(!std::is_copy_constructible_v<Vm> && !std::is_copy_assignable_v<Vm>);
static_assert(std::is_nothrow_move_constructible_v<Vm> && std::is_nothrow_move_assignable_v<Vm>);
static_assert(!std::is_copy_constructible_v<LinuxCall>);

constexpr uint64_t kPage = 0x1000;
constexpr uint64_t kBase = 0x10000;

// An allocator that counts what it has given.
static int live;

static kvma_allocator counting() {
  kvma_allocator table{};
  table.size = sizeof table;
  table.alloc = [](void *, size_t size, size_t align) -> void * {
    live++;
    return aligned_alloc(align, size);
  };
  table.free = [](void *, void *memory, size_t, size_t) {
    live--;
    free(memory);
  };
  return table;
}

static kvma_request pages(uint64_t count) {
  kvma_request request{};
  request.len = count * kPage;
  request.attrs.flags = KVMA_READ | KVMA_WRITE;
  return request;
}

static Vm map_with(const kvma_allocator &memory) {
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + 64 * kPage - 1, kPage, &memory).ok());
  return vm;
}

TEST(handles_free_themselves_once) {
  kvma_allocator memory = counting();
  {
    Vm vm = map_with(memory);
    uint64_t addr = 0;
    CHECK(vm.map(pages(4), addr).ok() && addr == kBase);
    CHECK(vm && live > 0);

    Vm other = std::move(vm);
    CHECK(!vm && other.size() == 1);
    // What was there is freed; a map moved to itself stays.
    other = map_with(memory);
    CHECK(other.empty());
    Vm &self = other;
    other = std::move(self);
    CHECK(other && other.empty());

    Vm third(other.release());
    CHECK(!other && third.close().ok() && !third);
    CHECK(third.close().ok());
  }
  CHECK_EQ(live, 0);
}

TEST(a_failure_leaves_an_empty_handle) {
  kvma_allocator memory = counting();
  Vm vm = map_with(memory);
  CHECK(Vm::create(vm, kBase, kBase + kPage - 1, 3, &memory) == KVMA_UNALIGNED);
  CHECK(!vm && live == 0);
  // Calls on it answer, as the C interface does with NULL.
  uint64_t addr = 0;
  CHECK(vm.map(pages(1), addr) == KVMA_NULL_POINTER);
  CHECK(vm.empty() && vm.size() == 0);
  Update update;
  CHECK(Update::create(update, vm) == KVMA_NULL_POINTER && !update);
  CHECK(update.finish().ok());
}

TEST(statuses_have_words) {
  Status status = KVMA_OVERLAP;
  CHECK(!status.ok() && status.code() == KVMA_OVERLAP && status.error() == 17);
  CHECK(std::string(status.text()) == kvma_strerror(KVMA_OVERLAP));
  CHECK(Status().ok() && status != Status());
}

TEST(maps_are_changed_and_walked) {
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + 64 * kPage - 1, kPage).ok());
  uint64_t addr = 0, bytes = 0;
  CHECK(vm.map(pages(4), addr).ok());
  CHECK(vm.protect(addr + kPage, kPage, KVMA_READ).ok());
  std::vector<uint64_t> starts;
  vm.for_each([&](const kvma_vma &vma) {
    starts.push_back(vma.range.start);
    return starts.size() < 2;
  });
  CHECK((starts == std::vector<uint64_t>{kBase, kBase + kPage}));
  kvma_vma vma;
  CHECK(vm.find(addr + kPage, vma).ok() && vma.attrs.flags == KVMA_READ);

  Vm child;
  CHECK(vm.fork(child).ok());
  CHECK(vm.unmap(addr, 2 * kPage, nullptr, &bytes).ok() && bytes == 2 * kPage);
  CHECK(vm.mapped_bytes() == 2 * kPage && child.mapped_bytes() == 4 * kPage);
  CHECK(vm.clear(nullptr, &bytes).ok() && bytes == 2 * kPage && vm.empty());
}

static int flushes;

// What hooks have heard of a move, in words.
struct Heard {
  std::vector<std::string> lines;

  kvma_hooks hooks() {
    kvma_hooks table{};
    table.size = sizeof table;
    table.udata = this;
    table.on_map = [](void *udata, const kvma_piece *piece) { note(udata, "map ", piece); };
    table.on_unmap = [](void *udata, const kvma_piece *piece) { note(udata, "unmap ", piece); };
    table.on_relocate = [](void *udata, const kvma_piece *piece, uint64_t) {
      note(udata, "relocate ", piece);
    };
    table.flush_begin = [](void *udata) { of(udata).push_back("flush"); };
    return table;
  }

  static std::vector<std::string> &of(void *udata) { return static_cast<Heard *>(udata)->lines; }

  static void note(void *udata, const char *what, const kvma_piece *piece) {
    of(udata).push_back(what + std::to_string((piece->range.start - kBase) / kPage));
  }
};

TEST(mappings_move_with_and_without_their_pages) {
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + 64 * kPage - 1, kPage).ok());
  uint64_t addr = 0;
  CHECK(vm.map(pages(4), addr).ok() && addr == kBase);
  kvma_vma vma;

  Heard moved;
  kvma_hooks hooks = moved.hooks();
  CHECK(vm.relocate(kBase, 4 * kPage, kBase + 8 * kPage, KVMA_SOURCE_UNMAP, &hooks).ok());
  CHECK((moved.lines == std::vector<std::string>{"relocate 0", "flush"}));
  CHECK(vm.relocate(kBase + 8 * kPage, kPage, kBase, KVMA_SOURCE_KEEP).ok());
  CHECK(vm.size() == 2 && vm.mapped_bytes() == 5 * kPage);

  // Over itself, two pages up: the pages are unmapped, and mapped again where they come to lie.
  Heard remapped;
  hooks = remapped.hooks();
  CHECK(vm.remap(kBase + 8 * kPage, 4 * kPage, kBase + 10 * kPage, &hooks).ok());
  CHECK((remapped.lines == std::vector<std::string>{"unmap 8", "flush", "map 10"}));
  CHECK(vm.find(kBase + 13 * kPage, vma).ok());
  CHECK(vma.range.start == kBase + 10 * kPage && vma.range.len == 4 * kPage);

  // What is in the way, and arguments out of range, are refused, and nothing changes.
  CHECK(vm.remap(kBase, kPage, kBase + 12 * kPage) == KVMA_OVERLAP);
  CHECK(vm.remap(kBase, kPage, kBase + 64 * kPage) == KVMA_OUT_OF_RANGE);
  CHECK(vm.remap(kBase, kPage, kBase, nullptr, 99) == KVMA_BAD_ARGUMENT);
  CHECK(vm.size() == 2 && vm.mapped_bytes() == 5 * kPage);
}

TEST(moved_mappings_may_get_other_attributes) {
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + 64 * kPage - 1, kPage).ok());
  uint64_t addr = 0;
  CHECK(vm.map(pages(4), addr).ok());
  kvma_vma vma;
  int asked = 0;
  auto read_only = [&asked](const kvma_attrs &old) {
    kvma_attrs attrs = old;
    attrs.flags = KVMA_READ;
    asked++;
    return attrs;
  };
  CHECK(vm.remap_with(addr, 2 * kPage, addr + 8 * kPage, read_only).ok() && asked > 0);
  CHECK(vm.find(addr + 8 * kPage, vma).ok() && vma.attrs.flags == KVMA_READ);
  CHECK(vm.find(addr + 2 * kPage, vma).ok() && vma.attrs.flags == (KVMA_READ | KVMA_WRITE));
  // A function that is made where it is used, and keeps everything.
  CHECK(vm.remap_with(addr + 8 * kPage, 2 * kPage, addr, [](const kvma_attrs &old) { return old; })
            .ok());
  CHECK(vm.find(addr, vma).ok() && vma.attrs.flags == KVMA_READ);

  // Within an update, one flush for two moves.
  flushes = 0;
  kvma_hooks hooks{};
  hooks.size = sizeof hooks;
  hooks.flush_wait = [](void *) { flushes++; };
  Update update;
  CHECK(Update::create(update, vm, &hooks, 6).ok());
  CHECK(update.remap(vm, addr, 2 * kPage, addr + 16 * kPage).ok());
  CHECK(update.remap(vm, addr + 2 * kPage, 2 * kPage, addr + 20 * kPage).ok());
  CHECK(update.remap(vm, addr + 20 * kPage, kPage, addr + 17 * kPage) == KVMA_OVERLAP);
  CHECK(update.finish().ok() && flushes == 1);
  CHECK(vm.find(addr + 21 * kPage, vma).ok() && vm.mapped_bytes() == 4 * kPage);
}

TEST(random_places_follow_from_their_numbers) {
  constexpr int kSpace = 64;
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + kSpace * kPage - 1, kPage).ok());
  // Two pages fit at every place but those that share one with the two pages in the middle.
  kvma_request middle = pages(2);
  middle.placement.kind = KVMA_FIXED;
  middle.placement.addr = kBase + 32 * kPage;
  uint64_t addr = 0, found = 0;
  CHECK(vm.map(middle, addr).ok());
  std::vector<int> seen(kSpace);
  kvma_request request = pages(2);
  kvma_search &search = request.placement.search;
  search.flags = KVMA_RANDOMISED;
  // The numbers of splitmix64, of which neighbours have nothing in common.
  uint64_t state = 0;
  auto next = [&state] {
    uint64_t z = state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
  };
  constexpr int kTries = 6000, kPlaces = 31 + 29;
  for (int i = 0; i < kTries; i++) {
    search.random = next();
    CHECK(vm.find_gap(2 * kPage, search, found).ok());
    CHECK(vm.map(request, addr).ok() && addr == found);
    seen[(addr - kBase) / kPage]++;
    CHECK(vm.unmap(addr, 2 * kPage).ok());
  }
  for (int page = 0; page < kSpace; page++) {
    bool fits = page < 31 || (page >= 34 && page < 63);
    // A hundred are expected at each; six standard deviations are sixty.
    int times = seen[page];
    CHECK(fits ? times > kTries / kPlaces - 60 && times < kTries / kPlaces + 60 : times == 0);
  }

  // Within a window and an alignment; and where nothing fits, as without a random number.
  search.first = kBase + 8 * kPage;
  search.last = kBase + 24 * kPage - 1;
  search.align = 4 * kPage;
  for (int i = 0; i < 64; i++) {
    search.random = next();
    CHECK(vm.find_gap(2 * kPage, search, addr).ok());
    CHECK(addr % (4 * kPage) == 0 && addr >= search.first && addr + 2 * kPage - 1 <= search.last);
  }
  CHECK(vm.find_gap(17 * kPage, search, addr) == KVMA_NO_SPACE);
}

TEST(an_update_ends_with_its_object) {
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + 64 * kPage - 1, kPage).ok());
  kvma_hooks hooks{};
  hooks.size = sizeof hooks;
  hooks.flush_wait = [](void *) { flushes++; };
  uint64_t addr = 0;
  flushes = 0;
  {
    Update update;
    CHECK(Update::create(update, vm, &hooks, 3).ok());
    CHECK(update.preallocate(6).ok());
    CHECK(update.map(vm, pages(8), addr).ok());
    CHECK(update.protect(vm, addr, kPage, KVMA_READ).ok());
    CHECK(update.unmap(vm, addr, 2 * kPage).ok());
    CHECK(update.removed() > 0 && flushes == 0);
  }
  CHECK_EQ(flushes, 1);
}

// A callback that destroys the map which calls it is told so, and the map is freed later.
static Vm *calling;

TEST(a_map_that_is_in_use_is_not_freed) {
  kvma_allocator memory = counting();
  {
    Vm vm = map_with(memory);
    calling = &vm;
    kvma_hooks hooks{};
    hooks.size = sizeof hooks;
    hooks.on_map = [](void *, const kvma_piece *) { CHECK(calling->close() == KVMA_BUSY); };
    uint64_t addr = 0;
    CHECK(vm.map(pages(1), addr, &hooks).ok());
    CHECK(vm && vm.size() == 1);
  }
  CHECK_EQ(live, 0);
}

TEST(processes_call_and_fork) {
  kvma_allocator memory = counting();
  {
    Linux mm;
    CHECK(Linux::create(mm, kvma_linux_layout_x86_64(UINT64_MAX), &memory).ok());
    LinuxCall call;
    CHECK(LinuxCall::create(call, mm, nullptr, 3).ok());
    kvma_linux_mmap_args args{};
    args.len = 4 * kPage;
    args.prot = PROT_READ | PROT_WRITE;
    args.flags = MAP_PRIVATE | MAP_ANONYMOUS;
    uint64_t addr = 0, moved = 0, action = 0, end = 0;
    CHECK(mm.mmap(call, args, addr).ok());
    CHECK(mm.mprotect(call, addr, kPage, PROT_READ).ok());
    CHECK(mm.madvise(call, addr, kPage, MADV_DONTFORK).ok());
    CHECK(mm.mremap(call, addr + kPage, 3 * kPage, 8 * kPage, MREMAP_MAYMOVE, 0, moved).ok());
    CHECK(mm.brk(call, 0, end).ok());
    kvma_linux_fault_args fault{};
    fault.addr = moved;
    fault.access = KVMA_ACCESS_WRITE;
    CHECK(mm.fault(call, fault, action).ok() && action == KVMA_FAULT_COPY);
    CHECK(mm.munmap(call, 1, kPage).code() == -22);
    kvma_vma vma;
    CHECK(mm.find(moved, vma).ok());

    Linux child;
    CHECK(mm.fork(call, child).ok());
    CHECK(child.size() + 1 == mm.size());
    std::string text;
    CHECK(child.maps([&](const char *part, size_t len) {
      text.append(part, len);
      return true;
    }).ok());
    CHECK(text.find("rw-p") != std::string::npos);
    CHECK(child.maps([](const char *, size_t) { return false; }) == KVMA_STOPPED);
    CHECK(mm.munmap(call, moved, 8 * kPage).ok() && call.removed() > 0);
    CHECK(call.finish().ok() && !call);
  }
  CHECK_EQ(live, 0);
}

TESTS(RUN(handles_free_themselves_once), RUN(a_failure_leaves_an_empty_handle),
      RUN(statuses_have_words), RUN(maps_are_changed_and_walked),
      RUN(mappings_move_with_and_without_their_pages),
      RUN(moved_mappings_may_get_other_attributes), RUN(random_places_follow_from_their_numbers),
      RUN(an_update_ends_with_its_object), RUN(a_map_that_is_in_use_is_not_freed),
      RUN(processes_call_and_fork))
