/* Memory that grows and is never cleared, aligned to a cache line so that no vector load crosses two. */
#ifndef EK_CORE_ALIGNED_H
#define EK_CORE_ALIGNED_H
#include <cstddef>
#include <memory>
#include <new>

namespace ek {

template <class T>
class Aligned {
 public:
  /* Room for at least n elements; what they held is lost when it grows. Throws std::bad_alloc. */
  T* reserve(size_t n) {
    if (n > size_) {
      data_.reset();
      size_ = 0;
      data_.reset(static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(64))));
      size_ = n;
    }
    return data_.get();
  }
  T* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(T* data) const { ::operator delete(data, std::align_val_t(64)); }
  };
  std::unique_ptr<T, Free> data_;
  size_t size_ = 0;
};

}  // namespace ek
#endif
