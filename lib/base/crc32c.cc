// See crc32c.h. Folding (Gopal et al., "Fast CRC computation using PCLMULQDQ", 2009): a block of w bits
// is moved D bits further by multiplying its halves with x^(D+32) and x^(D-32) modulo the polynomial and
// is added to the block that stands there. Several accumulators hide the latency of the multiplier; what
// is left in the end are 16 bytes that have the CRC of all.
#include "base/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_acle.h>
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace cgx {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78;  // reflected: bit 31 is x^0

constexpr std::array<std::array<uint32_t, 256>, 8> make_tables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? kPolynomial : 0);
    tables[0][byte] = crc;
  }
  for (size_t t = 1; t < 8; ++t) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[t - 1][byte];
      tables[t][byte] = (before >> 8) ^ tables[0][before & 0xff];
    }
  }
  return tables;
}

constexpr auto kTables = make_tables();

// All of these take and return the CRC's register: the complement of what users see.
uint32_t by_table(uint32_t state, const uint8_t* data, size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, data, 8);
    word ^= state;
    state = 0;
    for (size_t i = 0; i < 8; ++i) state ^= kTables[7 - i][(word >> (8 * i)) & 0xff];
  }
  for (; bytes > 0; ++data, --bytes) state = (state >> 8) ^ kTables[0][(state ^ *data) & 0xff];
  return state;
}

#if defined(__x86_64__)

// x^n modulo the polynomial, as the multiplier wants it: reflected, and one bit up.
consteval long long power(int n) {
  uint64_t value = 0x80000000;  // x^0
  for (int i = 0; i < n; ++i) value = (value >> 1) ^ ((value & 1) != 0 ? kPolynomial : 0);
  value <<= 1;
  return static_cast<long long>(value);
}

__attribute__((target("sse4.2"))) uint32_t by_instruction(uint32_t state, const uint8_t* data, size_t bytes) {
  uint64_t wide = state;
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, data, 8);
    wide = _mm_crc32_u64(wide, word);
  }
  state = static_cast<uint32_t>(wide);
  for (; bytes > 0; ++data, --bytes) state = _mm_crc32_u8(state, *data);
  return state;
}

__attribute__((target("sse4.2,pclmul"))) inline __m128i fold(__m128i block, __m128i by, __m128i onto) {
  return _mm_xor_si128(
      _mm_xor_si128(_mm_clmulepi64_si128(block, by, 0x00), _mm_clmulepi64_si128(block, by, 0x11)), onto);
}

__attribute__((target("sse4.2,pclmul"))) inline uint32_t finish(__m128i block, const uint8_t* data,
                                                                size_t bytes) {
  uint8_t last[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(last), block);
  return by_instruction(by_instruction(0, last, sizeof last), data, bytes);
}

constexpr size_t kStep128 = 128;  // eight accumulators

__attribute__((target("sse4.2,pclmul"))) uint32_t by_fold128(uint32_t state, const uint8_t* data,
                                                             size_t bytes) {
  if (bytes < 2 * kStep128) return by_instruction(state, data, bytes);
  const auto load = [](const uint8_t* from) __attribute__((target("sse4.2,pclmul"))) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from));
  };
  const __m128i far = _mm_set_epi64x(power(1024 - 32), power(1024 + 32));
  const __m128i near = _mm_set_epi64x(power(128 - 32), power(128 + 32));
  __m128i sums[8];
  for (int i = 0; i < 8; ++i) sums[i] = load(data + 16 * i);
  sums[0] = _mm_xor_si128(sums[0], _mm_cvtsi32_si128(static_cast<int>(state)));
  data += kStep128;
  bytes -= kStep128;
  for (; bytes >= kStep128; data += kStep128, bytes -= kStep128) {
    for (int i = 0; i < 8; ++i) sums[i] = fold(sums[i], far, load(data + 16 * i));
  }
  __m128i sum = sums[0];
  for (int i = 1; i < 8; ++i) sum = fold(sum, near, sums[i]);
  return finish(sum, data, bytes);
}

constexpr size_t kStep256 = 128;  // four accumulators
#define CGX_TARGET_FOLD256 __attribute__((target("sse4.2,pclmul,avx2,vpclmulqdq")))

CGX_TARGET_FOLD256 inline __m256i fold(__m256i block, __m256i by, __m256i onto) {
  return _mm256_xor_si256(
      _mm256_xor_si256(_mm256_clmulepi64_epi128(block, by, 0x00), _mm256_clmulepi64_epi128(block, by, 0x11)),
      onto);
}

CGX_TARGET_FOLD256 inline __m256i load256(const uint8_t* from) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
}

CGX_TARGET_FOLD256 uint32_t by_fold256(uint32_t state, const uint8_t* data, size_t bytes) {
  if (bytes < 2 * kStep256) return by_fold128(state, data, bytes);
  const __m256i far =
      _mm256_set_epi64x(power(1024 - 32), power(1024 + 32), power(1024 - 32), power(1024 + 32));
  const __m256i near = _mm256_set_epi64x(power(256 - 32), power(256 + 32), power(256 - 32), power(256 + 32));
  __m256i sums[4];
  for (int i = 0; i < 4; ++i) sums[i] = load256(data + 32 * i);
  sums[0] = _mm256_xor_si256(sums[0], _mm256_zextsi128_si256(_mm_cvtsi32_si128(static_cast<int>(state))));
  data += kStep256;
  bytes -= kStep256;
  for (; bytes >= kStep256; data += kStep256, bytes -= kStep256) {
    for (int i = 0; i < 4; ++i) sums[i] = fold(sums[i], far, load256(data + 32 * i));
  }
  const __m256i sum = fold(fold(fold(sums[0], near, sums[1]), near, sums[2]), near, sums[3]);
  const __m128i step = _mm_set_epi64x(power(128 - 32), power(128 + 32));
  return finish(fold(_mm256_castsi256_si128(sum), step, _mm256_extracti128_si256(sum, 1)), data, bytes);
}

constexpr size_t kStep512 = 256;  // four accumulators
#define CGX_TARGET_FOLD512 __attribute__((target("sse4.2,pclmul,avx512f,avx512vl,avx512dq,vpclmulqdq")))

CGX_TARGET_FOLD512 inline __m512i fold(__m512i block, __m512i by, __m512i onto) {
  constexpr int kXorOfThree = 0x96;
  return _mm512_ternarylogic_epi64(_mm512_clmulepi64_epi128(block, by, 0x00),
                                   _mm512_clmulepi64_epi128(block, by, 0x11), onto, kXorOfThree);
}

CGX_TARGET_FOLD512 uint32_t by_fold512(uint32_t state, const uint8_t* data, size_t bytes) {
  if (bytes < 2 * kStep512) return by_fold256(state, data, bytes);
  const __m512i far =
      _mm512_set4_epi64(power(2048 - 32), power(2048 + 32), power(2048 - 32), power(2048 + 32));
  const __m512i near = _mm512_set4_epi64(power(512 - 32), power(512 + 32), power(512 - 32), power(512 + 32));
  __m512i s0 = _mm512_loadu_si512(data);
  __m512i s1 = _mm512_loadu_si512(data + 64);
  __m512i s2 = _mm512_loadu_si512(data + 128);
  __m512i s3 = _mm512_loadu_si512(data + 192);
  s0 = _mm512_xor_si512(s0, _mm512_zextsi128_si512(_mm_cvtsi32_si128(static_cast<int>(state))));
  data += kStep512;
  bytes -= kStep512;
  for (; bytes >= kStep512; data += kStep512, bytes -= kStep512) {
    s0 = fold(s0, far, _mm512_loadu_si512(data));
    s1 = fold(s1, far, _mm512_loadu_si512(data + 64));
    s2 = fold(s2, far, _mm512_loadu_si512(data + 128));
    s3 = fold(s3, far, _mm512_loadu_si512(data + 192));
  }
  s0 = fold(fold(fold(s0, near, s1), near, s2), near, s3);
  const __m128i step = _mm_set_epi64x(power(128 - 32), power(128 + 32));
  __m128i parts[4];
  _mm512_storeu_si512(parts, s0);
  __m128i sum = fold(parts[0], step, parts[1]);
  sum = fold(sum, step, parts[2]);
  sum = fold(sum, step, parts[3]);
  return finish(sum, data, bytes);
}

#elif defined(__aarch64__)

__attribute__((target("+crc"))) uint32_t by_instruction(uint32_t state, const uint8_t* data, size_t bytes) {
  for (; bytes >= 8; data += 8, bytes -= 8) {
    uint64_t word = 0;
    std::memcpy(&word, data, 8);
    state = __crc32cd(state, word);
  }
  for (; bytes > 0; ++data, --bytes) state = __crc32cb(state, *data);
  return state;
}

#endif

}  // namespace

Crc32cPath crc32c_path() {
#if defined(__x86_64__)
  if (!__builtin_cpu_supports("sse4.2")) return Crc32cPath::kTable;
  if (!__builtin_cpu_supports("pclmul")) return Crc32cPath::kInstruction;
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("vpclmulqdq")) return Crc32cPath::kFold128;
  const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512dq");
  return wide ? Crc32cPath::kFold512 : Crc32cPath::kFold256;
#elif defined(__aarch64__)
  return (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0 ? Crc32cPath::kInstruction : Crc32cPath::kTable;
#else
  return Crc32cPath::kTable;
#endif
}

uint32_t crc32c(Crc32cPath path, uint32_t crc, const void* data, size_t bytes) {
  const auto* from = static_cast<const uint8_t*>(data);
  switch (path) {
#if defined(__x86_64__)
    case Crc32cPath::kFold512:
      return ~by_fold512(~crc, from, bytes);
    case Crc32cPath::kFold256:
      return ~by_fold256(~crc, from, bytes);
    case Crc32cPath::kFold128:
      return ~by_fold128(~crc, from, bytes);
#endif
#if defined(__x86_64__) || defined(__aarch64__)
    case Crc32cPath::kInstruction:
      return ~by_instruction(~crc, from, bytes);
#endif
    default:
      return ~by_table(~crc, from, bytes);
  }
}

uint32_t crc32c(uint32_t crc, const void* data, size_t bytes) {
  return crc32c(crc32c_path(), crc, data, bytes);
}

}  // namespace cgx
