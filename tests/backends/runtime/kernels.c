/* Kernels for hand-made artifacts, in TVM's packed calling convention. They check what the runner hands them and work
 * on unsigned numbers, whose overflow is defined. */
#include <stdint.h>

typedef struct {
  void* data;
  int32_t device_type, device_id, rank;
  uint8_t code, bits;
  uint16_t lanes;
  const int64_t* shape;
  const int64_t* strides;
  uint64_t byte_offset;
} Tensor;

typedef struct {
  int32_t kind;
  uint32_t zero;
  Tensor* tensor;
} Argument;

typedef struct {
  void* barrier;
  int32_t tasks;
} Group;

void (*penstock_raise)(const char* kind, const char** parts, int count) = 0;
int (*__TVMBackendParallelLaunch)(int (*task)(int, Group*, void*), void* data, int tasks) = 0;

static int raise(const char* message) {
  if (penstock_raise) penstock_raise("ValueError", &message, 1);
  return -1;
}

static int64_t elements(const Argument* argument) {
  int64_t count = 1;
  for (int32_t axis = 0; axis < argument->tensor->rank; ++axis) count *= argument->tensor->shape[axis];
  return count;
}

/* Dense int32 tensors on the CPU, `count` of them. */
static int are_int32(const Argument* arguments, int32_t found, int32_t count) {
  if (found != count) return 0;
  for (int32_t i = 0; i < count; ++i) {
    const Tensor* tensor = arguments[i].tensor;
    if (arguments[i].kind != 7 || arguments[i].zero != 0 || tensor->device_type != 1 || tensor->device_id != 0 ||
        tensor->code != 0 || tensor->bits != 32 || tensor->lanes != 1 || tensor->strides != 0 ||
        tensor->byte_offset != 0 || (uintptr_t)tensor->data % 4 != 0)
      return 0;
  }
  return 1;
}

#define KERNEL(name) int32_t name(void* self, Argument* arguments, int32_t count, void* result)
#define UNUSED (void)self, (void)result

/* result = first + second */
KERNEL(add) {
  UNUSED;
  if (!are_int32(arguments, count, 3)) return raise("add: unexpected arguments");
  const uint32_t *first = arguments[0].tensor->data, *second = arguments[1].tensor->data;
  uint32_t* sum = arguments[2].tensor->data;
  const int64_t size = elements(&arguments[2]);
  for (int64_t i = 0; i < size; ++i) sum[i] = first[i] + second[i];
  return 0;
}

/* result = 2 * first */
KERNEL(twice) {
  UNUSED;
  if (!are_int32(arguments, count, 2)) return raise("twice: unexpected arguments");
  const uint32_t* first = arguments[0].tensor->data;
  uint32_t* product = arguments[1].tensor->data;
  const int64_t size = elements(&arguments[1]);
  for (int64_t i = 0; i < size; ++i) product[i] = 2 * first[i];
  return 0;
}

static int twice_part(int id, Group* group, void* data) {
  const Argument* arguments = data;
  const uint32_t* first = arguments[0].tensor->data;
  uint32_t* product = arguments[1].tensor->data;
  const int64_t size = elements(&arguments[1]);
  for (int64_t i = size * id / group->tasks; i < size * (id + 1) / group->tasks; ++i) product[i] = 2 * first[i];
  return 0;
}

/* result = 2 * first, on all threads */
KERNEL(parallel_twice) {
  UNUSED;
  if (!are_int32(arguments, count, 2)) return raise("parallel_twice: unexpected arguments");
  return __TVMBackendParallelLaunch(twice_part, arguments, 0);
}

static int refuse_last(int id, Group* group, void* data) {
  (void)data;
  return id == group->tasks - 1 ? -1 : 0;
}

/* Fails in one thread. */
KERNEL(fail_in_thread) {
  UNUSED, (void)arguments, (void)count;
  return __TVMBackendParallelLaunch(refuse_last, 0, 0);
}

/* Fails with a message. */
KERNEL(fail) {
  UNUSED, (void)arguments, (void)count;
  return raise("this kernel always fails");
}

/* Fails without one. */
KERNEL(fail_silently) {
  UNUSED, (void)arguments, (void)count;
  return 1;
}

/* Writes one number too many. */
KERNEL(overrun) {
  UNUSED, (void)count;
  uint32_t* product = arguments[1].tensor->data;
  product[elements(&arguments[1])] = 1;
  return 0;
}

static uint32_t counter;

static int count_up(int id, Group* group, void* data) {
  (void)id, (void)group, (void)data;
  ++counter;
  return 0;
}

/* Writes one number from all threads at once. */
KERNEL(race) {
  UNUSED, (void)arguments, (void)count;
  return __TVMBackendParallelLaunch(count_up, 0, 0);
}
