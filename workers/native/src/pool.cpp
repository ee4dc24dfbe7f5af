#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

namespace {

// A thread that waits for the next stage spins so often before it lets others run: a stage takes microseconds, and a
// machine may have fewer free cores than threads.
constexpr int SPINS = 4000;

inline void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

}  // namespace

struct Pool {
  int threads;
  pthread_mutex_t run_lock, lock;
  pthread_cond_t begun, ended;
  uint64_t generation;
  int running;
  bool closing;
  void (*body)(void*, int);
  void* context;
  int arrived, round;
  pthread_t* handles;
};

namespace {

struct Start {
  Pool* pool;
  int thread;
};

void* work(void* argument) {
  Start start = *(Start*)argument;
  free(argument);
  Pool* pool = start.pool;
  uint64_t seen = 0;
  for (;;) {
    pthread_mutex_lock(&pool->lock);
    while (pool->generation == seen && !pool->closing) pthread_cond_wait(&pool->begun, &pool->lock);
    seen = pool->generation;
    const bool closing = pool->closing;
    pthread_mutex_unlock(&pool->lock);
    if (closing) return nullptr;
    pool->body(pool->context, start.thread);
    pthread_mutex_lock(&pool->lock);
    if (--pool->running == 0) pthread_cond_signal(&pool->ended);
    pthread_mutex_unlock(&pool->lock);
  }
}

Pool* make(int threads) {
  Pool* pool = (Pool*)calloc(1, sizeof(Pool));
  if (!pool) return nullptr;
  pthread_mutex_init(&pool->run_lock, nullptr);
  pthread_mutex_init(&pool->lock, nullptr);
  pthread_cond_init(&pool->begun, nullptr);
  pthread_cond_init(&pool->ended, nullptr);
  pool->handles = (pthread_t*)calloc(threads, sizeof(pthread_t));
  pool->threads = 1;
  for (int thread = 1; pool->handles && thread < threads; thread++) {
    Start* start = (Start*)malloc(sizeof(Start));
    if (!start) break;
    *start = {pool, thread};
    if (pthread_create(&pool->handles[thread], nullptr, work, start)) {
      free(start);
      break;  // fewer threads do it too
    }
    pool->threads++;
  }
  return pool;
}

void destroy(Pool* pool) {
  pthread_mutex_lock(&pool->lock);
  pool->closing = true;
  pthread_cond_broadcast(&pool->begun);
  pthread_mutex_unlock(&pool->lock);
  for (int thread = 1; thread < pool->threads; thread++) pthread_join(pool->handles[thread], nullptr);
  free(pool->handles);
  free(pool);
}

pthread_mutex_t making = PTHREAD_MUTEX_INITIALIZER;
Pool* shared = nullptr;
int wanted = 0;

// A forked child has none of the threads: it makes its own. The parent's record is left alone.
void forget() {
  shared = nullptr;
  wanted = 0;
  pthread_mutex_init(&making, nullptr);
}

}  // namespace

Pool* pool_of(int threads) {
  static bool registered = false;
  pthread_mutex_lock(&making);
  if (!registered) registered = pthread_atfork(nullptr, nullptr, forget) == 0;
  if (!shared || wanted != threads) {
    Pool* old = shared;
    if (old) {
      pthread_mutex_lock(&old->run_lock);
      pthread_mutex_unlock(&old->run_lock);
      destroy(old);
    }
    shared = make(threads < 1 ? 1 : threads);
    wanted = threads;
  }
  Pool* pool = shared;
  pthread_mutex_unlock(&making);
  return pool;
}

int pool_threads(const Pool* pool) { return pool->threads; }

void pool_run(Pool* pool, void (*body)(void*, int), void* context) {
  pthread_mutex_lock(&pool->run_lock);
  pool->body = body;
  pool->context = context;
  pool->arrived = 0;
  pthread_mutex_lock(&pool->lock);
  pool->running = pool->threads - 1;
  pool->generation++;
  pthread_cond_broadcast(&pool->begun);
  pthread_mutex_unlock(&pool->lock);
  body(context, 0);
  pthread_mutex_lock(&pool->lock);
  while (pool->running) pthread_cond_wait(&pool->ended, &pool->lock);
  pthread_mutex_unlock(&pool->lock);
  pthread_mutex_unlock(&pool->run_lock);
}

void pool_barrier(Pool* pool) {
  if (pool->threads == 1) return;
  const int round = __atomic_load_n(&pool->round, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&pool->arrived, 1, __ATOMIC_ACQ_REL) == pool->threads) {
    __atomic_store_n(&pool->arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&pool->round, round + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int spin = 0; __atomic_load_n(&pool->round, __ATOMIC_ACQUIRE) == round; spin++) {
    if (spin < SPINS) relax();
    else sched_yield();
  }
}
