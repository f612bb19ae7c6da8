// Clang's thread-safety annotations, checked in the clang preset; nothing for other compilers.
#pragma once

#if defined(__clang__)
#define GUARDED_BY(mutex) __attribute__((guarded_by(mutex)))
#else
#define GUARDED_BY(mutex)
#endif
