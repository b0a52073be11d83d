/* Preloaded by scripts/chaos: once armed, the k-th allocation (or thread) of the process fails. Counts from
 * 0; those of the C++ library are counted too, as operator new calls malloc. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

extern void* __libc_malloc(size_t);
extern void* __libc_calloc(size_t, size_t);
extern void* __libc_realloc(void*, size_t);
extern void* __libc_memalign(size_t, size_t);

static _Atomic int64_t left = -1; /* until the failure; below 0: none is to come */
static _Atomic int kind;          /* 1 memory, 2 threads */
static _Atomic int fired;
static _Atomic int active; /* inside of the library */

void chaos_arm(const char* what, int64_t k) {
  atomic_store(&fired, 0);
  atomic_store(&left, k);
  atomic_store(&kind, strcmp(what, "malloc") == 0 ? 1 : strcmp(what, "thread") == 0 ? 2 : 0);
}
void chaos_active(int on) { atomic_store(&active, on); }
int chaos_fired(void) { return atomic_load(&fired); }

static int fails(int of) {
  if (!atomic_load(&active) || atomic_load(&kind) != of) return 0;
  if (atomic_fetch_sub(&left, 1) != 0) return 0;
  atomic_store(&fired, 1);
  errno = of == 1 ? ENOMEM : EAGAIN;
  return 1;
}

void* malloc(size_t bytes) { return fails(1) ? NULL : __libc_malloc(bytes); }
void* calloc(size_t count, size_t bytes) { return fails(1) ? NULL : __libc_calloc(count, bytes); }
void* realloc(void* old, size_t bytes) { return fails(1) ? NULL : __libc_realloc(old, bytes); }
void* aligned_alloc(size_t alignment, size_t bytes) {
  return fails(1) ? NULL : __libc_memalign(alignment, bytes);
}
int posix_memalign(void** out, size_t alignment, size_t bytes) {
  if (fails(1)) return ENOMEM;
  *out = __libc_memalign(alignment, bytes);
  return *out == NULL ? ENOMEM : 0;
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*),
                   void* argument) {
  static int (*_Atomic real)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
  if (fails(2)) return EAGAIN;
  if (atomic_load(&real) == NULL) {
    int (*found)(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*);
    *(void**)&found = dlsym(RTLD_NEXT, "pthread_create");
    atomic_store(&real, found);
  }
  return atomic_load(&real)(thread, attributes, start, argument);
}
