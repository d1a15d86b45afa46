/* Writes lines of 60 bytes to stdout: lines COUNT blocks|lines. In blocks as stdio does for a pipe, or each by a write of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char** argv) {
  if (argc != 3) return 64;
  const long count = atol(argv[1]);
  static char buffer[4096];
  setvbuf(stdout, buffer, strcmp(argv[2], "lines") == 0 ? _IOLBF : _IOFBF, sizeof buffer);
  for (long i = 0; i < count; ++i) {
    printf("step %8ld loss %6.4f, tokens/second %9.1f, lr 1e-3\n", i, 2.5 - 1e-6 * (double)(i % 1000000), 123456.5 + (double)(i % 1000));
  }
  return fflush(stdout) == 0 ? 0 : 1;
}
