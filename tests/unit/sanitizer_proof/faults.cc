// Commits one fault on purpose, to show that the sanitizer of this build reports it: faults <race|use-after-free|overflow>.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>

namespace {

// Two threads write one plain word of a shared memfd mapping, as two ranks would in a window.
int Race() {
  const int fd = memfd_create("faults", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, 4096) != 0) return std::perror("memfd"), EXIT_SUCCESS;
  void* memory = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return std::perror("mmap"), EXIT_SUCCESS;
  int* word = static_cast<int*>(memory);
  std::thread one([word] { *word += 1; });
  std::thread two([word] { *word += 1; });
  one.join();
  two.join();
  return EXIT_SUCCESS;
}

int UseAfterFree() {
  auto number = std::make_unique<volatile int>(1);
  volatile int* stale = number.get();
  number.reset();
  return *stale == 1 ? EXIT_SUCCESS : 2;
}

int Overflow() {
  volatile int most = std::numeric_limits<int>::max();
  volatile int wrapped = most + 1;
  return wrapped < 0 ? EXIT_SUCCESS : 2;
}

}  // namespace

int main(int argc, char** argv) {
  const char* fault = argc == 2 ? argv[1] : "";
  if (std::strcmp(fault, "race") == 0) return Race();
  if (std::strcmp(fault, "use-after-free") == 0) return UseAfterFree();
  if (std::strcmp(fault, "overflow") == 0) return Overflow();
  std::fprintf(stderr, "usage: faults <race|use-after-free|overflow>\n");
  return 64;
}
