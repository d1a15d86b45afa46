#include "launcher/mpi/pmi_line.h"

#include <gmock/gmock.h>

namespace muster {
namespace {

TEST(PmiLine, IsACommandAndItsWords) {
  const auto line = ParsePmiLine("cmd=put  kvsname=k key=a-b value=x=y ");
  ASSERT_TRUE(line.ok()) << line.status();
  EXPECT_EQ(line->command, "put");
  EXPECT_EQ(line->value("kvsname"), "k");
  EXPECT_EQ(line->value("value"), "x=y");
  EXPECT_EQ(line->value("other"), "");
}

TEST(PmiLine, AnythingElseIsRefused) {
  for (const std::string& bad :
       {std::string(""), std::string(" "), std::string("put"), std::string("key=a cmd=put"), std::string("cmd="),
        std::string("cmd=put key"), std::string("cmd=put =x"), std::string("cmd=put key=a key=b"),
        std::string("cmd=put\tkey=a"), std::string("cmd=put key=\x80"), std::string("cmd=a\0b=c", 9),
        "cmd=put value=" + std::string(kPmiLineBytesMax, 'x')}) {
    EXPECT_FALSE(ParsePmiLine(bad).ok()) << bad.substr(0, 40);
  }
}

}  // namespace
}  // namespace muster
