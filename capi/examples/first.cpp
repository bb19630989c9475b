// The same in C++: the map frees itself, and a status cannot be forgotten.
#include <cstdio>
#include <kvma.hpp>

int main() {
  kvma_hooks hooks{};
  hooks.size = sizeof hooks;
  hooks.on_unmap = [](void *, const kvma_piece *piece) {
    std::printf("clear the page tables of %#llx..%#llx\n",
                static_cast<unsigned long long>(piece->range.start),
                static_cast<unsigned long long>(piece->range.last));
  };

  kvma_request request{};
  request.len = 0x4000;
  request.attrs.flags = KVMA_READ | KVMA_WRITE;

  kvma::Vm vm;
  uint64_t addr = 0;
  kvma::Status status = kvma::Vm::create(vm, 0x100000, 0x400fffff, 0x1000);
  if (status.ok())
    status = vm.map(request, addr, &hooks);
  if (status.ok())
    status = vm.protect(addr, 0x1000, KVMA_READ, &hooks);
  if (status.ok())
    status = vm.unmap(addr + 0x2000, 0x1000, &hooks);
  if (!status.ok())
    std::fprintf(stderr, "%s\n", status.text());
  return status.ok() ? 0 : 1;
}
