// Number types, vector words and the shape of a tiled matrix product.
#pragma once

#include <ap_int.h>

namespace archsim {

using u3 = ap_uint<3>;
using i8 = ap_int<8>;
using i15 = ap_int<15>;
using i16 = ap_int<16>;
using i32 = ap_int<32>;
using i40 = ap_int<40>;
using i45 = ap_int<45>;
using i48 = ap_int<48>;
using i64 = ap_int<64>;

constexpr int ceil_div(int a, int b) { return (a + b - 1) / b; }

// One word of Count lanes, moved in one cycle.
template <class Element, int Count>
struct Lanes {
    Element lane[Count];

    Element& operator[](int index) { return lane[index]; }
    const Element& operator[](int index) const { return lane[index]; }
};

// A product X[Rows, Depth] * W[Depth, Columns] on an array of LanesIn x LanesOut multipliers.
// Rows are taken in blocks of Block, as many as the accumulators hold. Every stream around the product
// carries its words in the order (block, column panel, row), inside which the operands repeat per depth panel.
template <int Rows, int Depth, int Columns, int Block, int LanesIn, int LanesOut>
struct Product {
    static constexpr int rows = Rows;
    static constexpr int depth = Depth;
    static constexpr int columns = Columns;
    static constexpr int block = Block;
    static constexpr int lanes_in = LanesIn;
    static constexpr int lanes_out = LanesOut;
    static constexpr int blocks = ceil_div(Rows, Block);
    static constexpr int depth_panels = ceil_div(Depth, LanesIn);
    static constexpr int column_panels = ceil_div(Columns, LanesOut);
    static constexpr int padded_columns = column_panels * LanesOut;

    using Streamed = Lanes<i8, LanesIn>;
    using Stationary = Lanes<i8, LanesOut>;
    using Sums = Lanes<i32, LanesOut>;
    using Wide = Lanes<i16, LanesOut>;
    using Narrow = Lanes<i8, LanesOut>;

    // Rows of a block: the last one may be short.
    static constexpr int rows_of(int index) {
        return Rows - index * Block < Block ? Rows - index * Block : Block;
    }
};

}  // namespace archsim
