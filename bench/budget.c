/* To be preloaded (LD_PRELOAD): counts the calls that one library or program makes of the C library, and
 * stops its clock on demand. Only calls from its own code count, so what the VM around it does does not.
 *
 *   BUDGET_OBJECT   how its file's path ends
 *   BUDGET_COUNTS   the file of the counts: see `struct counts`
 *
 * A system call that is made without the C library is not seen. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

/* What is counted, and then passed on as it is. */
#define PASSED(F)                                                                                      \
  F(epoll_ctl) F(epoll_pwait) F(read) F(readv) F(recv) F(recvfrom) F(recvmsg) F(write) F(writev) F(send) \
  F(sendto) F(sendmsg) F(sendfile) F(sendfile64) F(splice) F(accept) F(accept4) F(close) F(shutdown)     \
  F(socket) F(socketpair) F(connect) F(bind) F(listen) F(getsockopt) F(setsockopt) F(getsockname)        \
  F(getpeername) F(fcntl) F(fcntl64) F(ioctl) F(poll) F(ppoll) F(open) F(open64) F(openat) F(openat64)   \
  F(pread) F(pread64) F(fstat) F(fstat64) F(statx) F(getrandom) F(sched_yield) F(nanosleep)              \
  F(clock_nanosleep) F(mmap) F(mmap64) F(munmap) F(madvise) F(syscall)

/* A row for each function. */
#ifdef BUDGET_CLOCK_ONLY
#define FUNCTIONS(F) F(clock_gettime) F(epoll_wait)
#else
#define FUNCTIONS(F) \
  F(clock_gettime) F(epoll_wait) F(malloc) F(calloc) F(realloc) F(posix_memalign) PASSED(F)
#endif

#define INDEX(name) AT_##name,
enum { FUNCTIONS(INDEX) ROWS };

struct counts {
  /* While it is not 0 the clock stands; each number that is written stops it anew. */
  _Atomic uint64_t stopped;
  struct {
    char name[24];
    /* By threads that the library has started itself, and by all others. */
    _Atomic uint64_t own, others;
  } rows[ROWS];
};

static struct counts *counts;
static const char *object = "";
static _Thread_local bool is_own;

static bool ends_with(const char *text, const char *end) {
  size_t length = strlen(text), tail = strlen(end);
  return length >= tail && strcmp(text + length - tail, end) == 0;
}

/* Looked up once for each page of code: what is loaded stays where it is. */
static bool calls(void *from) {
  static _Atomic uintptr_t known[1 << 16];
  uintptr_t page = (uintptr_t)from >> 12;
  _Atomic uintptr_t *entry = &known[page & 0xffff];
  uintptr_t found = atomic_load_explicit(entry, memory_order_relaxed);
  if (found >> 1 != page) {
    Dl_info info;
    bool is_of_object = dladdr(from, &info) && info.dli_fname && ends_with(info.dli_fname, object);
    found = page << 1 | is_of_object;
    atomic_store_explicit(entry, found, memory_order_relaxed);
  }
  return found & 1;
}

static bool counted(int row, void *from) {
  if (!counts || !calls(from)) return false;
  atomic_fetch_add_explicit(is_own ? &counts->rows[row].own : &counts->rows[row].others, 1,
                            memory_order_relaxed);
  return true;
}

#define CALLER __builtin_return_address(0)

#define NEXT(name)                                       \
  static __typeof__(name) *_Atomic next;                 \
  if (!next) next = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* The time stands, but not for ever: whoever looks at the clock until some of it has gone by gets there. */
static uint64_t since, stopped_at, waits;
#define WAITS_AT_ONCE 100
#define NS_OF_A_WAIT 1000

int clock_gettime(clockid_t clock, struct timespec *time) {
  NEXT(clock_gettime);
  bool is_ours = counted(AT_clock_gettime, CALLER) && !is_own;
  uint64_t stop = is_ours && clock == CLOCK_MONOTONIC ? counts->stopped : 0;
  if (!stop) return next(clock, time);
  if (stop != since) {
    since = stop;
    next(clock, time);
    stopped_at = time->tv_sec * 1000000000ull + time->tv_nsec;
    waits = 0;
  }
  uint64_t late = waits > WAITS_AT_ONCE ? waits - WAITS_AT_ONCE : 0;
  uint64_t now = stopped_at + late * NS_OF_A_WAIT;
  time->tv_sec = now / 1000000000;
  time->tv_nsec = now % 1000000000;
  return 0;
}

int epoll_wait(int epoll, struct epoll_event *events, int max, int timeout) {
  NEXT(epoll_wait);
  if (counted(AT_epoll_wait, CALLER) && !is_own) waits++;
  return next(epoll, events, max, timeout);
}

/* So that it is known which threads are the library's own. */
struct start {
  void *(*run)(void *);
  void *argument;
};

static void *start(void *pointer) {
  struct start own = *(struct start *)pointer;
  free(pointer);
  is_own = true;
  return own.run(own.argument);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
                   void *argument) {
  NEXT(pthread_create);
  struct start *own = counts && calls(CALLER) ? malloc(sizeof *own) : NULL;
  if (!own) return next(thread, attributes, run, argument);
  *own = (struct start){run, argument};
  return next(thread, attributes, start, own);
}

#ifndef BUDGET_CLOCK_ONLY
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);
void *__libc_memalign(size_t alignment, size_t size);

void *malloc(size_t size) {
  counted(AT_malloc, CALLER);
  return __libc_malloc(size);
}

void *calloc(size_t count, size_t size) {
  counted(AT_calloc, CALLER);
  return __libc_calloc(count, size);
}

void *realloc(void *old, size_t size) {
  counted(AT_realloc, CALLER);
  return __libc_realloc(old, size);
}

int posix_memalign(void **result, size_t alignment, size_t size) {
  counted(AT_posix_memalign, CALLER);
  *result = __libc_memalign(alignment, size);
  return *result ? 0 : ENOMEM;
}

/* The other functions are passed what is in the registers of their arguments, whatever that is; `syscall`
 * has the most. */
typedef long word;
typedef word function(word, word, word, word, word, word, word);

#define PASS(name)                                                                     \
  function counted_##name __asm__(#name);                                             \
  word counted_##name(word a, word b, word c, word d, word e, word f, word g) {        \
    static function *_Atomic next;                                                    \
    if (!next) next = (function *)dlsym(RTLD_NEXT, #name);                            \
    counted(AT_##name, CALLER);                                                       \
    return next(a, b, c, d, e, f, g);                                                 \
  }
PASSED(PASS)
#endif

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("BUDGET_COUNTS"), *end = getenv("BUDGET_OBJECT");
  int file = path && end ? open(path, O_RDWR | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *shared = MAP_FAILED;
  if (ftruncate(file, sizeof *counts) == 0)
    shared = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  close(file);
  if (shared == MAP_FAILED) return;
  struct counts *found = shared;
#define NAME(it) strcpy(found->rows[AT_##it].name, #it);
  FUNCTIONS(NAME)
  object = end;
  counts = found;
}
