// The list of codecs. A codec is one file in codecs/ and one name here: its row for users, its sizes,
// its drivers for every CPU and its tests follow from the file.
//
// A dense codec (how numbers are written) is a struct with
//   kKind, kName, kSummary, kParams, kInitial      its row; finish(), check_error_feedback() where needed
//   unit(), unit_bytes(), is_unbiased()            its sizes
//   and the arithmetic of one of the shapes that drivers-inl.h knows (bucketed or element by element).
// A sparse codec (which elements are kept) is a struct with the row's first line and
//   layout_bytes(), is_unbiased(), encode(), decode()   as CodecRow describes them.
#pragma once

#include "codec/codecs/cast.h"
#include "codec/codecs/dither.h"
#include "codec/codecs/maxmin.h"
#include "codec/codecs/natdither.h"
#include "codec/codecs/natural.h"
#include "codec/codecs/natural8.h"
#include "codec/codecs/none.h"
#include "codec/codecs/randk.h"
#include "codec/codecs/topk.h"

namespace cgx {

template <typename... Codec>
struct CodecList {};

using DenseCodecs = CodecList<None, Cast, MaxMin, Dither, NatDither, Natural, Natural8>;
using SparseCodecs = CodecList<TopK, RandK>;

}  // namespace cgx
