// What the caller's code throws must not cross kvma: it is caught before, and thrown again behind.
// Without exceptions, nothing is thrown, and running out of memory ends the program, as it does
// with the standard containers.
#ifndef LIBMMAP_DETAIL_UNWIND_H
#define LIBMMAP_DETAIL_UNWIND_H

#include <exception>
#include <new>
#include <utility>

namespace mmap {
namespace detail {

#if defined(__cpp_exceptions)

class Caught {
public:
  // Runs 'work' unless something was caught before. False if something is caught.
  template <class F> bool run(F &&work) noexcept {
    if (what_)
      return false;
    try {
      std::forward<F>(work)();
    } catch (...) {
      what_ = std::current_exception();
    }
    return !what_;
  }

  // Throws what was caught, once.
  void rethrow() {
    if (what_)
      std::rethrow_exception(std::exchange(what_, nullptr));
  }

private:
  std::exception_ptr what_;
};

[[noreturn]] inline void no_memory() { throw std::bad_alloc(); }

#else

class Caught {
public:
  template <class F> bool run(F &&work) noexcept {
    std::forward<F>(work)();
    return true;
  }

  void rethrow() {}
};

[[noreturn]] inline void no_memory() { std::terminate(); }

#endif

} // namespace detail
} // namespace mmap

#endif // LIBMMAP_DETAIL_UNWIND_H
