// The list of codecs. A codec is one file in codecs/ and one name here: its row for users, its sizes,
// its drivers for every CPU and its tests follow from the file.
//
// A dense codec (how numbers are written) is a struct with
//   kKind, kName, kSummary, kParams, kInitial      its row; finish(), check_error_feedback() where needed
//   unit(), unit_bytes(), is_unbiased()            its sizes
//   and the arithmetic of one of the shapes that simd/ knows (bucketed or element by element).
// A sparse codec (which elements are kept) is a struct with the row's first line and
//   layout_bytes(), is_unbiased(), encode(), decode()   as CodecRow describes them.
//
// Files of dense codecs are included here only, and here again for each CPU instruction set: what
// lies between CGX_BEGIN_CODEC and CGX_END_CODEC is compiled for each, in a namespace of its own.
#if defined(CGX_CODEC_LIST_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef CGX_CODEC_LIST_H_
#undef CGX_CODEC_LIST_H_
#else
#define CGX_CODEC_LIST_H_
#endif

#ifdef HWY_BEFORE_NAMESPACE
#define CGX_BEGIN_CODEC   \
  HWY_BEFORE_NAMESPACE(); \
  namespace cgx {         \
  namespace HWY_NAMESPACE {
#define CGX_END_CODEC \
  }                   \
  }                   \
  HWY_AFTER_NAMESPACE();
#else
#define CGX_BEGIN_CODEC namespace cgx {
#define CGX_END_CODEC }
#endif

#include "codec/codecs/cast.h"
#include "codec/codecs/maxmin.h"
#include "codec/codecs/natural.h"
#include "codec/codecs/natural8.h"
#include "codec/codecs/none.h"
#include "codec/codecs/norm.h"
// After norm.h.
#include "codec/codecs/dither.h"
#include "codec/codecs/natdither.h"
// Sparse.
#include "codec/codecs/randk.h"
#include "codec/codecs/topk.h"

CGX_BEGIN_CODEC

template <typename... Codec>
struct CodecList {};

using DenseCodecs = CodecList<None, Cast, MaxMin, Dither, NatDither, Natural, Natural8>;
using SparseCodecs = CodecList<TopK, RandK>;

CGX_END_CODEC

#undef CGX_BEGIN_CODEC
#undef CGX_END_CODEC

#endif  // per-target include guard
