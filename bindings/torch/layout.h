// A codec handle with an owner, and the layout of a tensor: which span travels under which codec.
#ifndef CGX_BINDINGS_TORCH_LAYOUT_H_
#define CGX_BINDINGS_TORCH_LAYOUT_H_

#include <cgx/cgx.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "error.h"

namespace cgx_torch {

struct DestroyCodec {
  void operator()(cgx_codec* codec) const { cgx_codec_destroy(codec); }
};
using CodecPtr = std::unique_ptr<cgx_codec, DestroyCodec>;

inline CodecPtr make_codec(const std::string& spec) {
  cgx_codec* codec = nullptr;
  check(cgx_codec_create(spec.c_str(), &codec));
  return CodecPtr(codec);
}

// Segments in order, covering a tensor without gap or overlap. Made once and used at every step.
class Layout {
 public:
  // An empty spec: uncompressed.
  void add(uint64_t count, const std::string& spec, uint32_t tensor_id) {
    const cgx_codec* codec = nullptr;
    if (!spec.empty()) {
      auto& owned = codecs_[spec];
      if (!owned) {
        owned = make_codec(spec);
      }
      codec = owned.get();
    }
    segments_.push_back({count_, count, codec, tensor_id});
    count_ += count;
  }

  uint64_t count() const { return count_; }
  const std::vector<cgx_segment>& segments() const { return segments_; }

 private:
  std::vector<cgx_segment> segments_;
  std::map<std::string, CodecPtr> codecs_;
  uint64_t count_ = 0;
};

}  // namespace cgx_torch

#endif  // CGX_BINDINGS_TORCH_LAYOUT_H_
