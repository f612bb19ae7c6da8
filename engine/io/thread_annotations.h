// Clang's thread-safety annotations, checked in the clang preset; nothing for other compilers. And the mutex
// that they need: the standard library's is not annotated, so that a member "guarded by" a std::mutex does
// not compile there.
#pragma once

#include <mutex>

#if defined(__clang__)
#define LOGBELL_THREAD_ATTRIBUTE(x) __attribute__((x))
#else
#define LOGBELL_THREAD_ATTRIBUTE(x)
#endif
#define CAPABILITY(name) LOGBELL_THREAD_ATTRIBUTE(capability(name))
#define SCOPED_CAPABILITY LOGBELL_THREAD_ATTRIBUTE(scoped_lockable)
#define GUARDED_BY(mutex) LOGBELL_THREAD_ATTRIBUTE(guarded_by(mutex))
#define REQUIRES(...) LOGBELL_THREAD_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define ACQUIRE(...) LOGBELL_THREAD_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define RELEASE(...) LOGBELL_THREAD_ATTRIBUTE(release_capability(__VA_ARGS__))

namespace logbell::engine {

// std::mutex, known to the analysis.
class CAPABILITY("mutex") Mutex {
 public:
  void lock() ACQUIRE() { mutex_.lock(); }
  void unlock() RELEASE() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
};

// std::lock_guard, known to the analysis.
class SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

}  // namespace logbell::engine
