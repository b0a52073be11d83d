// The spec grammar: canonical text, defaults, and a clear error for each wrong one.
#include "codec/spec.h"

#include <gtest/gtest.h>

#include "codec/codec.h"
#include "codec/codec_row.h"

namespace cgx {
namespace {

std::string canonical(std::string_view text) {
  const auto spec = parse_spec(text);
  return spec.ok() ? to_string(*spec) : spec.status().message();
}

TEST(Spec, PrintsEveryParameter) {
  EXPECT_EQ(canonical("none"), "none");
  EXPECT_EQ(canonical("cast:bf16"), "cast:bf16");
  EXPECT_EQ(canonical("cast:type=fp16"), "cast:fp16");
  EXPECT_EQ(canonical("maxmin"), "maxmin:bits=4,bucket=512,rounding=stochastic");
  EXPECT_EQ(canonical("maxmin:rounding=nearest,bits=2"), "maxmin:bits=2,bucket=512,rounding=nearest");
  EXPECT_EQ(canonical("dither:bits=8,norm=2"), "dither:bits=8,norm=2,bucket=512,levels=127");
  EXPECT_EQ(canonical("natdither"), "natdither:bits=4,norm=inf,bucket=512,levels=7");
  EXPECT_EQ(canonical("natural"), "natural");
  EXPECT_EQ(canonical("natural8"), "natural8:bias=110");
  EXPECT_EQ(canonical("maxmin:bucket=0+ef"), "maxmin:bits=4,bucket=0,rounding=stochastic+ef");
  EXPECT_EQ(canonical("topk:ratio=0.01|natural"), "topk:ratio=0.01|natural");
  EXPECT_EQ(canonical("topk:ratio=0.010+ef"), "topk:ratio=0.01+ef");
  EXPECT_EQ(canonical("topk:indices=plain"), "topk:ratio=0.01") << "the text of frames written before";
  EXPECT_EQ(canonical("topk:indices=packed|natural+ef"), "topk:ratio=0.01,indices=packed|natural+ef");
  EXPECT_EQ(canonical("randk:ratio=0.25|maxmin:bits=8"),
            "randk:ratio=0.25|maxmin:bits=8,bucket=512,rounding=stochastic");
}

struct Wrong {
  const char* spec;
  std::vector<const char*> said;  // what the error must contain
};

TEST(Spec, EachWrongOneIsAnErrorThatSaysWhatAndWhatToDo) {
  const Wrong wrongs[] = {
      {"", {"no codec", "none", "maxmin", "topk"}},
      {"zip",
       {"unknown codec \"zip\"", "none", "cast", "maxmin", "dither", "natdither", "natural", "natural8",
        "topk", "randk"}},
      {"Maxmin", {"unknown codec"}},
      {" maxmin", {"unknown codec"}},
      {"maxmin:bits=17", {"\"maxmin:bits=17\"", "bits must be 1..8, not 17"}},
      {"maxmin:bits=0", {"bits must be 1..8, not 0"}},
      {"maxmin:bits=-1", {"bits must be 1..8"}},
      {"maxmin:bits=4.0", {"bits must be 1..8, not 4.0"}},
      {"maxmin:bits=4 ", {"bits must be 1..8, not 4 "}},
      {"maxmin:bits=", {"bits has no value", "1..8"}},
      {"maxmin:bits", {"not name=value", "bits"}},
      {"maxmin:", {"empty"}},
      {"maxmin:bits=4,", {"empty"}},
      {"maxmin:bits=4,bits=5", {"bits is given twice"}},
      {"maxmin:size=4", {"unknown parameter \"size\"", "bits", "bucket", "rounding"}},
      {"maxmin:bucket=100", {"bucket must be", "power of two", "100"}},
      {"maxmin:bucket=16", {"bucket must be"}},
      {"maxmin:bucket=131072", {"bucket must be"}},
      {"maxmin:rounding=up", {"rounding must be stochastic|nearest, not up"}},
      {"dither:bits=1", {"bits must be 2..8, not 1"}},
      {"dither:norm=3", {"norm must be inf|1|2, not 3"}},
      {"dither:bits=4,levels=8", {"levels must be 1 to 7 at bits=4, not 8"}},
      {"dither:levels=0", {"levels must be"}},
      {"natural:bits=9", {"unknown parameter", "takes none"}},
      {"natural8:bias=128", {"bias must be -1..127, not 128"}},
      {"cast", {"cast needs type (fp16|bf16)"}},
      {"cast:fp8", {"type must be fp16|bf16, not fp8"}},
      {"cast:fp16,bf16", {"type is given twice"}},
      {"topk:ratio=0", {"ratio must be"}},
      {"topk:ratio=1.5", {"ratio must be"}},
      {"topk:ratio=nan", {"ratio must be"}},
      {"topk:indices=delta", {"indices must be plain|packed, not delta"}},
      {"randk:indices=packed", {"unknown parameter \"indices\""}},
      {"topk:ratio=0.1|topk:ratio=0.1", {"inner codec"}},
      {"topk:ratio=0.1|", {"no codec is named"}},
      {"topk:ratio=0.1|natural|natural", {"unknown codec"}},
      {"natural|maxmin", {"natural", "no inner codec"}},
      {"none+ef", {"none", "+ef"}},
      {"randk:ratio=0.01+ef", {"randk"}},
      {"maxmin:bits=1+ef", {"error feedback"}},
      {"dither:bits=4,norm=2+ef", {"error feedback"}},
      {"natural+ef+ef", {"unknown codec"}},
  };
  for (const Wrong& wrong : wrongs) {
    const auto spec = parse_spec(wrong.spec);
    ASSERT_FALSE(spec.ok()) << wrong.spec;
    EXPECT_EQ(spec.status().code(), Code::kInvalidArgument);
    for (const char* words : wrong.said) {
      EXPECT_NE(spec.status().message().find(words), std::string::npos)
          << wrong.spec << ": " << spec.status().message() << " lacks: " << words;
    }
  }
}

TEST(Spec, ErrorFeedbackIsTakenWhereItsResidualStaysBounded) {
  for (const char* text :
       {"maxmin+ef", "maxmin:bits=1,rounding=nearest+ef", "dither+ef", "natdither+ef", "natural+ef",
        "natural8+ef", "cast:fp16+ef", "topk:ratio=0.01+ef", "topk:ratio=0.01|natural+ef"}) {
    const auto spec = parse_spec(text);
    ASSERT_TRUE(spec.ok()) << spec.status().message();
    EXPECT_TRUE(spec->error_feedback);
  }
}

TEST(Spec, UnbiasedIsWhatAveragesOut) {
  for (const char* text :
       {"none", "maxmin", "dither", "natdither", "natural", "natural8", "randk:ratio=0.1"}) {
    EXPECT_TRUE(is_unbiased(*parse_spec(text))) << text;
  }
  for (const char* text : {"cast:fp16", "maxmin:rounding=nearest", "topk:ratio=0.1|natural"}) {
    EXPECT_FALSE(is_unbiased(*parse_spec(text))) << text;
  }
}

TEST(Spec, EveryListedCodecIsDescribed) {
  for (const CodecRow& row : codec_rows()) {
    EXPECT_GT(std::string_view(row.summary).size(), 10u) << row.name;
    for (const ParamRow& param : row.params) {
      EXPECT_NE(std::string_view(param.info.name), "");
      EXPECT_NE(std::string_view(param.info.range), "") << param.info.name;
      EXPECT_NE(std::string_view(param.info.meaning), "") << param.info.name;
    }
    EXPECT_EQ(&codec_row(row.kind), &row);
  }
}

TEST(Spec, NumbersAreWholeTexts) {
  EXPECT_EQ(parse_integer("12"), 12);
  EXPECT_FALSE(parse_integer("12x"));
  EXPECT_FALSE(parse_integer(""));
  EXPECT_FALSE(parse_integer("99999999999999999999"));
  EXPECT_EQ(parse_number("0.25"), 0.25);
  EXPECT_FALSE(parse_number("inf"));
  EXPECT_FALSE(parse_number("0.25 "));
  EXPECT_EQ(print_number(0.1), "0.1");
}

}  // namespace
}  // namespace cgx
