// The rows of codec_list.h, in its order.
#include <array>

#include "codec/codec_list.h"
#include "codec/codec_row.h"

namespace cgx {
namespace {

template <typename C>
constexpr CodecRow make_row() {
  CodecRow row = {};
  row.kind = C::kKind;
  row.name = C::kName;
  row.summary = C::kSummary;
  row.params = C::kParams;
  row.initial = C::kInitial;
  if constexpr (requires { &C::finish; }) row.finish = &C::finish;
  if constexpr (requires { &C::check_error_feedback; }) row.check_error_feedback = &C::check_error_feedback;
  row.is_unbiased = &C::is_unbiased;
  if constexpr (requires { &C::unit; }) {
    row.unit = &C::unit;
    row.unit_bytes = &C::unit_bytes;
  } else {
    row.layout_bytes = &C::layout_bytes;
    row.encode = &C::encode;
    row.decode = &C::decode;
  }
  return row;
}

template <typename... D, typename... S>
constexpr std::array<CodecRow, sizeof...(D) + sizeof...(S)> make_rows(CodecList<D...>, CodecList<S...>) {
  return {make_row<D>()..., make_row<S>()...};
}

constexpr auto kRows = make_rows(DenseCodecs{}, SparseCodecs{});

}  // namespace

std::span<const CodecRow> codec_rows() { return kRows; }

const CodecRow& codec_row(CodecKind kind) {
  for (const CodecRow& row : kRows) {
    if (row.kind == kind) return row;
  }
  check_failed(__FILE__, __LINE__, "the codec is listed");
}

}  // namespace cgx
