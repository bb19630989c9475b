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

TEST(an_update_ends_with_its_object) {
  Vm vm;
  CHECK(Vm::create(vm, kBase, kBase + 64 * kPage - 1, kPage).ok());
  kvma_hooks hooks{};
  hooks.size = sizeof hooks;
  hooks.flush_wait = [](void *) { flushes++; };
  uint64_t addr = 0;
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
      RUN(an_update_ends_with_its_object), RUN(a_map_that_is_in_use_is_not_freed),
      RUN(processes_call_and_fork))
