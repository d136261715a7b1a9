// The vector unit's integer arithmetic. Right shifts are arithmetic (floor); results saturate.
#pragma once

#include <cstdint>

#include "archsim/types.hpp"

namespace archsim {

// The row record's scale: a value times mantissa, shifted right by exponent.
struct RowScale {
    ap_uint<16> mantissa;
    ap_uint<6> exponent;
};

inline i16 sat16(i64 value) {
#pragma HLS inline
    if (value > 32767) return i16(32767);
    if (value < -32768) return i16(-32768);
    return i16(value);
}

inline i8 sat8(i16 value) {
#pragma HLS inline
    if (value > 127) return i8(127);
    if (value < -128) return i8(-128);
    return i8(value);
}

// sat16((value * multiplier + bias) >> Shift)
template <int Shift, class Value>
i16 affine(Value value, i16 multiplier, i45 bias) {
#pragma HLS inline
    const i64 sum = value * multiplier + bias;
    return sat16(sum >> Shift);
}

// Half of 2^Shift: what rounds a right shift by Shift to nearest.
template <int Shift>
i64 half() {
#pragma HLS inline
    return Shift == 0 ? i64(0) : i64(i64(1) << (Shift == 0 ? 0 : Shift - 1));
}

// value * 2^amount: a residual of a column that was divided by that power of two.
inline i15 shift_left(i8 value, u3 amount) {
#pragma HLS inline
    return i15(i15(value) << amount);
}

// sat16(value + ((other * Multiplier + half) >> Shift)); other is int8, or int15 after shift_left.
template <int Multiplier, int Shift, class Other>
i16 add_residual(i16 value, Other other) {
#pragma HLS inline
    const i64 scaled = other * i16(Multiplier) + half<Shift>();
    const i64 shifted = scaled >> Shift;
    return sat16(value + shifted);
}

// sat16((value * other + half) >> Shift)
template <int Shift, class Other>
i16 multiply_residual(i16 value, Other other) {
#pragma HLS inline
    const i64 product = value * other + half<Shift>();
    return sat16(product >> Shift);
}

// table[sat8(value) & 255]
inline i16 lookup(i16 value, const i16 table[256]) {
#pragma HLS inline
    const ap_uint<8> index = sat8(value);
    return table[index.to_int()];
}

// table[z & 255] >> (z >> 8) with z = clamp(offset - value, 0, 65535); zero past fifteen octaves.
inline i16 exp_lookup(i40 offset, i16 value, const i16 table[256]) {
#pragma HLS inline
    const i64 distance = offset - value;
    int z = 65535;
    if (distance < 0) {
        z = 0;
    } else if (distance < 65535) {
        z = distance.to_int();
    }
    const int octave = z >> 8;
    if (octave > 15) return i16(0);
    return i16(table[z & 255] >> octave);
}

// sat16((value * mantissa + 2^(exponent-1)) >> exponent)
template <class Value>
i16 scale(Value value, RowScale row) {
#pragma HLS inline
    const int exponent = row.exponent.to_int();
    const i64 product = value * row.mantissa;
    const i64 rounded = product + (i64(1) << (exponent - 1));
    return sat16(rounded >> exponent);
}

// scale(Count * value - offset)
template <int Count>
i16 normalise(i16 value, i40 offset, RowScale row) {
#pragma HLS inline
    const i40 centred = value * ap_uint<16>(Count) - offset;
    return scale(centred, row);
}

namespace detail {

inline int floor_log2(ap_uint<64> value) {
#pragma HLS inline
    int top = 0;
    for (int bit = 0; bit < 64; ++bit) {
#pragma HLS unroll
        if (value[bit]) top = bit;
    }
    return top;
}

// round(2^24 / (f + 1/2)) for f of 512..1023; 2f + 1 is odd, so there are no ties.
struct ReciprocalRom {
    std::uint16_t entry[512];

    constexpr ReciprocalRom() : entry() {
        for (std::uint32_t i = 0; i < 512; ++i) {
            const std::uint32_t divisor = 2 * (512 + i) + 1;
            entry[i] = static_cast<std::uint16_t>(((1u << 26) + divisor) / (2 * divisor));
        }
    }
};

// round(sqrt(2^39 / (2f + 1))), that is round(2^15 / sqrt((f + 1/2) / 256)), for f of 256..1023:
// the largest r with (2r - 1)^2 (2f + 1) <= 2^41.
struct RootRom {
    std::uint16_t entry[768];

    constexpr RootRom() : entry() {
        for (std::uint64_t i = 0; i < 768; ++i) {
            const std::uint64_t odd = 2 * (256 + i) + 1;
            std::uint64_t root = 0;
            for (std::uint64_t step = 1u << 15; step > 0; step >>= 1) {
                const std::uint64_t twice = 2 * (root + step) - 1;
                if (twice * twice * odd <= (std::uint64_t(1) << 41)) root += step;
            }
            entry[i] = static_cast<std::uint16_t>(root);
        }
    }
};

}  // namespace detail

// x * 2^7 / sum = x * mantissa >> exponent, from the sum's top ten bits.
inline RowScale reciprocal(i40 sum) {
    static constexpr detail::ReciprocalRom rom;
    const ap_uint<64> positive = sum < 1 ? i64(1) : i64(sum);
    const int j = detail::floor_log2(positive);
    const ap_uint<64> top = j >= 9 ? ap_uint<64>(positive >> (j >= 9 ? j - 9 : 0))
                                   : ap_uint<64>(positive << (j >= 9 ? 0 : 9 - j));
    return RowScale{rom.entry[top.to_int() & 511], ap_uint<6>(8 + j)};
}

// d * 2^10 / sqrt(value) = d * mantissa >> exponent, from the value's top eight to ten bits.
inline RowScale reciprocal_root(i64 value) {
    static constexpr detail::RootRom rom;
    const ap_uint<64> positive = value < 1 ? i64(1) : value;
    const int j = detail::floor_log2(positive) / 2;
    const ap_uint<64> top = j >= 4 ? ap_uint<64>(positive >> (j >= 4 ? 2 * j - 8 : 0))
                                   : ap_uint<64>(positive << (j >= 4 ? 0 : 8 - 2 * j));
    return RowScale{rom.entry[(top.to_int() - 256) & 1023], ap_uint<6>(5 + j)};
}

}  // namespace archsim
