#include "launcher/cli/man_page.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace muster {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

CommandPage Page() {
  FlagSet flags("muster walk");
  bool fast = false;
  std::string route;
  flags.Switch("-f --fast", &fast, "walk\nfast");
  flags.Heading("where to");
  flags.Text("--route", "FILE", &route, "along a way");
  flags.Ignored("--shoes");
  flags.NotYet("--fly", "Walk.");
  return {"walk",
          "go somewhere",
          {.before = "usage: muster walk [options]\n       muster walk home\n\nWalks; it's C:\\ or\n.here.\n\nTwice.\n\nexamples\n  muster "
                     "walk --fast\n",
           .flags = flags.Describe(),
           .after = "Be warned.\n\nexit status\n  0    there\n"}};
}

TEST(ManPage, HasASectionForEachPartOfHelp) {
  EXPECT_EQ(CommandManual(Page(), {"walk", "run"}, {"1.2", "2026-01-02"}), R"(.TH MUSTER\-WALK 1 2026-01-02 "muster 1.2" "muster manual"
.SH NAME
muster\-walk \- go somewhere
.SH SYNOPSIS
.nf
muster walk [options]
muster walk home
.fi
.SH DESCRIPTION
Walks; it\(aqs C:\e or
\&.here.
.PP
Twice.
.SH EXAMPLES
.nf
muster walk \-\-fast
.fi
.SH OPTIONS
.TP
\fB\-f\fR, \fB\-\-fast\fR
walk
fast
.SS where to
.TP
\fB\-\-route\fR \fIFILE\fR
along a way
.TP
\fB\-\-shoes\fR
Accepted without effect: what they ask for is so anyway.
.SH NOTES
Be warned.
.SH "EXIT STATUS"
.nf
0    there
.fi
.SH "SEE ALSO"
.BR muster (1),
.BR muster\-run (1)
)");
}

TEST(HelpPage, GroupsFlagsUnderTheirHeadings) {
  const std::string text = HelpText(Page().page);
  EXPECT_THAT(text, HasSubstr("\noptions\n  -f, --fast                  walk\n                              fast\n\nwhere to\n  --route FILE"));
  EXPECT_THAT(text, HasSubstr("along a way\n\nBe warned.\n"));
  EXPECT_THAT(text, Not(HasSubstr("--fly")));
  EXPECT_THAT(text, Not(HasSubstr("--shoes")));
}

TEST(FlagSet, AHeadingSaidAgainGathersItsFlags) {
  FlagSet flags("muster test");
  bool unused = false;
  flags.Heading("one");
  flags.Switch("-a", &unused, "");
  flags.Heading("two");
  flags.Switch("-b", &unused, "");
  flags.Heading("one");
  flags.Switch("-c", &unused, "");
  flags.Heading("");
  flags.Switch("-d", &unused, "");
  std::string order;
  for (const FlagDescription& flag : flags.Describe()) order += flag.names[0];
  EXPECT_EQ(order, "-d-a-c-b");
}

}  // namespace
}  // namespace muster
