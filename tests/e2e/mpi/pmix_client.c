/* A PMIx client with no MPI around it: each rank publishes a value and reads every other rank's, once without a fence before, so
 * that a value of another node is asked for; then comes to a fence of the even ranks, and one of all with the data.
 */
#include <pmix.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void must(pmix_status_t status, const char* what) {
  if (status == PMIX_SUCCESS) return;
  fprintf(stderr, "%s: %s\n", what, PMIx_Error_string(status));
  exit(3);
}

int main(void) {
  pmix_proc_t me, peer;
  pmix_value_t value, *got = NULL;
  unsigned size, rank;
  char text[32], wanted[32];
  must(PMIx_Init(&me, NULL, 0), "PMIx_Init");
  PMIX_LOAD_PROCID(&peer, me.nspace, PMIX_RANK_WILDCARD);
  must(PMIx_Get(&peer, PMIX_JOB_SIZE, NULL, 0, &got), "the size of the job");
  size = got->data.uint32;
  PMIX_VALUE_RELEASE(got);
  snprintf(text, sizeof text, "card of %u", me.rank);
  value.type = PMIX_STRING;
  value.data.string = text;
  must(PMIx_Put(PMIX_GLOBAL, "card", &value), "PMIx_Put");
  must(PMIx_Commit(), "PMIx_Commit");
  for (rank = 0; rank < size; ++rank) {
    PMIX_LOAD_PROCID(&peer, me.nspace, rank);
    must(PMIx_Get(&peer, "card", NULL, 0, &got), "PMIx_Get");
    snprintf(wanted, sizeof wanted, "card of %u", rank);
    if (got->type != PMIX_STRING || strcmp(got->data.string, wanted) != 0) return 4;
    PMIX_VALUE_RELEASE(got);
  }
  if (me.rank % 2 == 0) {
    pmix_proc_t even[64];
    size_t count = 0;
    for (rank = 0; rank < size && count < 64; rank += 2, ++count) PMIX_LOAD_PROCID(&even[count], me.nspace, rank);
    must(PMIx_Fence(even, count, NULL, 0), "PMIx_Fence of the even ranks");
  }
  pmix_info_t collect;
  PMIX_INFO_LOAD(&collect, PMIX_COLLECT_DATA, NULL, PMIX_BOOL);
  must(PMIx_Fence(NULL, 0, &collect, 1), "PMIx_Fence");
  must(PMIx_Finalize(NULL, 0), "PMIx_Finalize");
  printf("pmix rank=%u size=%u\n", me.rank, size);
  return 0;
}
